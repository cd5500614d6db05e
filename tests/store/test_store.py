"""Stored runs load with everything that was written; failed writes raise at once."""

import gc
import json
import resource
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
import runs

from swbench import store
from swbench.errors import StoreDamaged, StoreError, UnknownName


def test_run_round_trip(written):
    plan = runs.plan()
    stored = store.load(written)
    assert stored.plan == plan
    assert stored.rounds == tuple(runs.one_round(plan, index=index) for index in range(3))
    assert (stored.complete, stored.command, stored.environment, stored.warnings) == (
        False,
        "run tiny",
        runs.ENVIRONMENT,
        (),
    )
    assert [result.case for result in stored.results] == [case.key for case in plan.groups[0].cases]
    assert stored.results[1].samples("forward_s") == (1.1, 1.1, 1.1)
    assert stored.results[1].samples("peak_bytes") == (5.0,)
    assert stored.results[1].samples("error") == (float("inf"),)
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


def test_two_runs_in_one_second_get_two_folders(tmp_path):
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
    stored = store.load(writer.path)
    assert [len(result.samples("forward_s")) for result in stored.results] == [3, 3, 1]
    assert [set(round_.samples) for round_ in stored.rounds] == [{keys[2]}, *[set(keys[:2])] * 3]


def test_full_disk_raises_at_once_and_leaves_complete_lines(tmp_path):
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
                r"are stored; go on with --resume"
            ),
        ):
            writer.add_round(runs.one_round(plan, index=3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    writer.close()
    assert store.load(writer.path).warnings == ()
    assert len(store.load(writer.path).rounds) == 3


def test_folder_removed_during_the_run_raises_at_once(tmp_path):
    plan = runs.plan()
    writer = store.RunWriter.create(tmp_path / "here", plan, {}, "")
    subprocess.run(["rm", "-r", str(tmp_path / "here")], check=True)
    with pytest.raises(StoreError, match="removed"):
        writer.add_round(runs.one_round(plan))
    with pytest.raises(StoreError, match="is not there"):
        writer.finish()


@pytest.mark.parametrize("place", ["file/x", "/proc/nothing"])
def test_unwritable_folder_is_refused_with_a_remedy(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write results to .*--results"):
        store.RunWriter.create(tmp_path / place, runs.plan(), {}, "")


def test_snapshot_equals_the_loaded_run(written):
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


def change_first_round(path, old, new):
    """Change the first line of rounds.jsonl, under a checksum that is right."""
    first, *rest = (path / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    assert old in first
    body = first[12:-2].replace(old, new, 1)
    line = b'["%08x",%b]\n' % (zlib.crc32(body), body)
    (path / "rounds.jsonl").write_bytes(line + b"".join(rest))


def sizes(path):
    """How many times the first round has of its cases."""
    return {len(samples) for samples in store.load(path).rounds[0].samples.values()}


DAMAGED_TIME = r"line 1 is damaged: samples: .* is not a finite number"


@pytest.mark.parametrize("value", ["1e999", "-1e999", '"1"', "true", "null"])
def test_time_that_is_not_finite_is_reported_as_damage(written, value):
    change_first_round(written, b'"forward_s":0.1,', f'"forward_s":{value},'.encode())
    with pytest.raises(StoreDamaged, match=DAMAGED_TIME):
        store.load(written)


def test_a_missing_time_is_left_out(written):
    change_first_round(written, b'"forward_s":0.1,', b"")
    assert sizes(written) == {1, 2}


@pytest.mark.parametrize("value", ["1e999", "-1e999", '"1"', "true", "null"])
def test_in_a_table_of_schema_2_null_is_a_missing_time(tmp_path, value):
    path = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "schema-2", path)
    change_first_round(path, b"[0.1,0.3]", f"[0.1,{value}]".encode())
    if value == "null":
        assert sizes(path) == {1, 2}
    else:
        with pytest.raises(StoreDamaged, match=DAMAGED_TIME):
            store.load(path)


@pytest.mark.parametrize("value", [b"-1", b"true", b"3", b'"x"'])
@pytest.mark.parametrize("field", [b'"g":0', b'"o":[2'])
def test_position_outside_the_plan_is_damage_in_schema_2(tmp_path, field, value):
    path = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "schema-2", path)
    change_first_round(path, field, field[:-1] + value)
    with pytest.raises(StoreDamaged, match=r"line 1 is damaged"):
        store.load(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"group":"cpu batch 1"', b'"group":"cpu batch 2"'),
        (b'"group":"cpu batch 1"', b'"group":"none"'),
        (b'"index":0', b'"index":-1'),
        (b'"replicate":0', b'"replicate":-1'),
        (b'"replicate":0', b'"replicate":0.0'),
        (b'"attempt":"a"', b'"attempt":1'),
        (b'"attempt":"a",', b""),
        (b'"attempt":"a",', b'"attempt":"a","colour":"red",'),
        (b'"order":["', b'"order":["unknown","'),
        (b'"samples":{"', b'"samples":{"unknown":{},"'),
        (b'"blocks":{"', b'"blocks":{"unknown":{},"'),
    ],
)
def test_round_that_does_not_match_the_plan_is_damage(written, old, new):
    change_first_round(written, old, new)
    with pytest.raises(StoreDamaged, match="line 1 is damaged"):
        store.load(written)


def test_finite_times_with_an_infinite_sum_are_valid(written):
    change_first_round(
        written,
        b'{"forward_s":0.1,"forward_backward_s":0.3}',
        b'{"forward_s":1e308,"forward_backward_s":1e308}',
    )
    assert {"forward_s": 1e308, "forward_backward_s": 1e308} in store.load(written).rounds[
        0
    ].samples.values()


def test_results_outside_the_plan_or_not_finite_are_not_written(tmp_path):
    plan, other = runs.plan(1), runs.plan(2)
    with store.RunWriter.create(tmp_path, plan, {}, "") as writer:
        with pytest.raises(ValueError, match="not in the plan"):
            writer.add_round(runs.one_round(other, group=1))
        with pytest.raises(ValueError, match="not of its group"):
            writer.add_round(replace(runs.one_round(plan), order=("x",)))
        with pytest.raises(ValueError, match="not JSON compliant"):
            writer.add_round(replace(runs.one_round(plan), started=float("nan")))
        with pytest.raises(ValueError, match="not in the plan"):
            writer.seal(runs.results(other, group=1))
        with pytest.raises(ValueError, match="not in the plan"):
            writer.seal([replace(runs.results(plan)[0], case="x")])
    assert (writer.path / "rounds.jsonl").stat().st_size == 0
    assert (writer.path / "cells.jsonl").stat().st_size == 0
