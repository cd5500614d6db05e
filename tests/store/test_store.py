"""What is written comes back, under its name; where it cannot be written that is said at once."""

import gc
import json
import resource
import subprocess
import sys
import zlib

import pytest
import runs

from swbench import store
from swbench.errors import StoreDamaged, StoreError, UnknownName


def test_what_is_written_comes_back(written):
    plan = runs.plan()
    found = store.load(written)
    assert found.plan == plan
    assert found.rounds == tuple(runs.one_round(plan, index=index) for index in range(3))
    assert (found.complete, found.command, found.environment, found.warnings) == (
        False,
        "run tiny",
        runs.ENVIRONMENT,
        (),
    )
    assert [one.case for one in found.results] == [case.key for case in plan.groups[0].cases]
    assert found.results[1].samples("forward_s") == (1.1, 1.1, 1.1)
    assert found.results[1].samples("peak_bytes") == (5.0,)
    assert found.results[1].samples("error") == (float("inf"),)
    assert (written / "suite.toml").read_text() == "x = 1"
    assert all(json.loads(line)[1] for line in (written / "rounds.jsonl").read_text().splitlines())


def test_a_finished_run_is_complete_and_found(tmp_path):
    plan = runs.plan(1, 1)
    with store.RunWriter.create(
        tmp_path, plan, {}, "c", options={"only": ("swa*",), "quick": False}
    ) as writer:
        runs.fill(writer, plan)
        assert writer.sealed("cpu batch 1", 0)
        assert not writer.sealed("cpu batch 1", 1)
        writer.finish("budget spent")
    assert store.load(writer.path).complete
    assert (
        store.find(tmp_path, "latest")
        == store.find(tmp_path, writer.id)
        == store.find(tmp_path, writer.path)
        == store.find(tmp_path, writer.id[:-1])
    )
    assert store.newest(tmp_path, "tiny", {"only": ["swa*"]}).complete
    assert store.newest(tmp_path, "tiny", {}) is None
    with pytest.raises(UnknownName):
        store.find(tmp_path, "../elsewhere")
    with pytest.raises(StoreError, match="is complete; show it"):
        store.resume(writer.path)


def test_two_runs_of_one_second_have_two_folders(tmp_path):
    writers = [store.RunWriter.create(tmp_path, runs.plan(), {}, "") for _ in range(3)]
    assert len({writer.path for writer in writers}) == 3


def test_the_samples_of_a_failed_attempt_stay_with_the_cell_that_failed(tmp_path):
    plan = runs.plan(1, 1)
    keys = [case.key for case in plan.groups[0].cases]
    with store.RunWriter.create(tmp_path, plan, {}, "") as writer:
        writer.add_round(runs.one_round(plan, attempt="first"))
        for index in range(3):
            writer.add_round(runs.one_round(plan, attempt="second", index=index))
        first, second = runs.results(plan, attempt="first"), runs.results(plan, attempt="second")
        writer.seal([second[0], second[1], first[2]])
    found = store.load(writer.path)
    assert [len(one.samples("forward_s")) for one in found.results] == [3, 3, 1]
    assert [set(one.samples) for one in found.rounds] == [{keys[2]}, *[set(keys[:2])] * 3]


def test_a_full_disk_is_said_at_once_and_leaves_whole_lines(tmp_path):
    plan = runs.plan()
    writer = store.RunWriter.create(tmp_path, plan, {}, "")
    runs.fill(writer, plan)
    size = (writer.path / "rounds.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # the kernel then writes 20 bytes, and refuses the rest
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))
    try:
        with pytest.raises(
            StoreError,
            match=(
                r"rounds\.jsonl.*choose another folder.*3 finished cells and 3 rounds "
                r"are kept; go on with --resume"
            ),
        ):
            writer.add_round(runs.one_round(plan, index=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.close()
    assert store.load(writer.path).warnings == ()
    assert len(store.load(writer.path).rounds) == 3


def test_a_folder_removed_during_the_run_is_said_at_once(tmp_path):
    plan = runs.plan()
    writer = store.RunWriter.create(tmp_path / "here", plan, {}, "")
    subprocess.run(["rm", "-r", str(tmp_path / "here")], check=True)
    with pytest.raises(StoreError, match="removed"):
        writer.add_round(runs.one_round(plan))
    with pytest.raises(StoreError, match="is not there"):
        writer.finish()


@pytest.mark.parametrize("place", ["file/x", "/proc/nothing"])
def test_a_place_that_cannot_be_written_is_said_with_the_remedy(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write results to .*--results"):
        store.RunWriter.create(tmp_path / place, runs.plan(), {}, "")


def test_a_snapshot_is_what_reading_would_give(written):
    with store.resume(written, runs.plan(), runs.ENVIRONMENT) as writer:
        runs.fill(writer, writer.plan, group=1, attempt="c")
        writer.add_round(runs.one_round(writer.plan, replicate=1, attempt="d"))
        assert writer.snapshot() == store.load(written)
        subprocess.run(["rm", "-r", written], check=True)
        assert len(writer.snapshot().results) == 6
        with pytest.raises(
            StoreError, match="The run folder is gone, and with it 6 finished cells"
        ):
            writer.finish()


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path, monkeypatch):
    def full(path, data):
        raise StoreError("no space")

    monkeypatch.setattr("swbench.store.writer.write_json", full)
    with pytest.raises(StoreError, match="no space"):
        store.RunWriter.create(tmp_path, runs.plan(), {}, "")
    assert list(tmp_path.iterdir()) == []


def test_reading_imports_no_torch(written):
    code = (
        f"import sys; from swbench import store; store.load({str(written)!r}); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_reading_leaves_the_garbage_collector_as_it_was(written):
    for collecting in (True, False):
        gc.enable() if collecting else gc.disable()
        try:
            store.load(written)
            with pytest.raises(StoreError):
                store.load(written.parent)
            assert gc.isenabled() is collecting
        finally:
            gc.enable()


@pytest.mark.parametrize("value", ["1e999", "-1e999", '"1"', "true", "null"])
def test_a_time_that_is_no_finite_number_is_damage_and_a_missing_one_is_left_out(written, value):
    path = written / "rounds.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    body = first[12:-2].replace(b"[0.1,0.3]", f"[0.1,{value}]".encode(), 1)
    path.write_bytes(b'["%08x",%b]\n' % (zlib.crc32(body), body) + b"".join(rest))
    if value == "null":
        assert {len(samples) for samples in store.load(written).rounds[0].samples.values()} == {
            1,
            2,
        }
    else:
        with pytest.raises(StoreDamaged, match="line 1 is damaged: a sample is not"):
            store.load(written)


def test_times_whose_sum_is_infinite_are_times(written):
    path = written / "rounds.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    body = first[12:-2].replace(b"[0.1,0.3]", b"[1e308,1e308]", 1)
    path.write_bytes(b'["%08x",%b]\n' % (zlib.crc32(body), body) + b"".join(rest))
    assert {"forward_s": 1e308, "forward_backward_s": 1e308} in store.load(written).rounds[
        0
    ].samples.values()
