"""What is written comes back; torn lines are recovered, damaged ones named; one writer a run; changes refuse a resumption."""

import json
import os
import resource
import subprocess
import sys
import textwrap

import pytest
import runs

from swbench import store
from swbench.errors import ResumeRefused, SchemaTooNew, StoreBusy, StoreDamaged, StoreError, UnknownName
from swbench.store import fingerprint


@pytest.fixture
def written(tmp_path):
    """A run of two groups with one of four replicates sealed and one round of another."""
    plan = runs.plan()
    writer = store.RunWriter.create(tmp_path, plan, runs.ENVIRONMENT, "run tiny", suite_text="x = 1", options={"threads": 1})
    runs.fill(writer, plan)
    writer.add_round(runs.one_round(plan, group=1, attempt="b"))
    writer.close()
    return writer.path


def test_what_is_written_comes_back(written):
    plan = runs.plan()
    found = store.load(written)
    assert found.plan == plan
    assert found.rounds == tuple(runs.one_round(plan, index=index) for index in range(3))
    assert (found.complete, found.command, found.environment, found.warnings) == (False, "run tiny", runs.ENVIRONMENT, ())
    assert [one.case for one in found.results] == [case.key for case in plan.groups[0].cases]
    assert found.results[1].samples("forward_s") == (1.1, 1.1, 1.1)
    assert found.results[1].samples("peak_bytes") == (5.0,)
    assert found.results[1].samples("error") == (float("inf"),)
    assert (written / "suite.toml").read_text() == "x = 1"
    assert all(json.loads(line)[1] for line in (written / "rounds.jsonl").read_text().splitlines())


def test_a_finished_run_is_complete_and_found(tmp_path):
    plan = runs.plan(1, 1)
    with store.RunWriter.create(tmp_path, plan, {}, "c", options={"only": ("swa*",), "quick": False}) as writer:
        runs.fill(writer, plan)
        assert writer.sealed("cpu batch 1", 0)
        assert not writer.sealed("cpu batch 1", 1)
        writer.finish("budget spent")
    assert store.load(writer.path).complete
    assert store.find(tmp_path, "latest") == store.find(tmp_path, writer.id) == store.find(tmp_path, writer.path) == store.find(tmp_path, writer.id[:-1])
    assert store.newest(tmp_path, "tiny", {"only": ["swa*"]}).complete
    assert store.newest(tmp_path, "tiny", {}) is None
    with pytest.raises(UnknownName):
        store.find(tmp_path, "../elsewhere")
    with pytest.raises(StoreError, match="is complete; show it"):
        store.resume(writer.path)


def test_two_runs_of_one_second_have_two_folders(tmp_path):
    writers = [store.RunWriter.create(tmp_path, runs.plan(), {}, "") for _ in range(3)]
    assert len({writer.path for writer in writers}) == 3


@pytest.mark.parametrize("name", ["rounds.jsonl", "cells.jsonl"])
def test_a_torn_last_line_is_recovered_and_reported(written, name):
    whole = (written / name).read_bytes()
    with open(written / name, "ab") as file:
        file.write(whole.splitlines(keepends=True)[0][:-7])
    before = store.load(written)
    assert len(before.results) == 3
    assert len(before.rounds) == 3
    assert "torn last line" in before.warnings[0]
    assert name in before.warnings[0]
    store.resume(written).close()
    assert (written / name).read_bytes() == whole
    assert store.load(written).header["resumed"][0]["recovered"] == list(before.warnings)


@pytest.mark.parametrize("cut", [1, 2])
def test_a_seal_that_was_cut_between_its_lines_counts_as_nothing(written, cut):
    path = written / "cells.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:cut]))
    found = store.load(written)
    assert found.results == found.rounds == ()
    assert f"its {cut} cells were left out" in found.warnings[0]
    with store.resume(written) as writer:
        assert path.read_bytes() == b""
        runs.fill(writer, writer.plan, attempt="c")
    assert [one.attempt for one in store.load(written).results] == ["c"] * 3
    assert {one.attempt for one in store.load(written).rounds} == {"c"}


@pytest.mark.parametrize(("name", "line"), [("rounds.jsonl", 2), ("cells.jsonl", 1), ("rounds.jsonl", 4)])
def test_a_damaged_line_is_named_by_number(written, name, line):
    lines = (written / name).read_bytes().splitlines(keepends=True)
    lines[line - 1] = lines[line - 1].replace(b"0", b"1", 1) if line != 4 else b"garbage\n"
    lines[line - 1] = lines[line - 1][:-10] + b"\x00" + lines[line - 1][-9:]
    (written / name).write_bytes(b"".join(lines))
    with pytest.raises(StoreDamaged, match=rf"{name} line {line} is damaged"):
        store.load(written)
    with pytest.raises(StoreDamaged, match=f"line {line}"):
        store.resume(written)
    left = store.load(written, salvage=True)
    assert f"{name} line {line}" in left.warnings[0]
    assert len(left.results) == (2 if name == "cells.jsonl" else 3)


def test_a_cell_sealed_twice_is_damage(written):
    path = written / "cells.jsonl"
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(StoreDamaged, match="line 4 is damaged: it seals a cell a second time"):
        store.load(written)


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


def test_a_second_writer_is_refused_with_the_pid_of_the_first(written):
    code = f"import sys; from swbench import store; w = store.resume({str(written)!r}); print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "ready\n"
        with pytest.raises(StoreBusy, match=f"process {first.pid};"):
            store.resume(written)
        first.kill()
        first.wait()
    store.resume(written).close()


def test_resuming_keeps_what_is_sealed_and_drops_what_is_not(written):
    with store.resume(written, runs.plan(), {**runs.ENVIRONMENT, "now": {"load": 7.0}}, command="again") as writer:
        assert [writer.sealed(group.name, 0) for group in writer.plan.groups] == [True, False]
        runs.fill(writer, writer.plan, group=1, attempt="c")
    assert {one.attempt for one in store.load(written).rounds} == {"a", "c"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": runs.plan(replicates=4)}, "protocol.iterations was 6 and is 12"),
        ({"plan": runs.plan(groups=3)}, "the suite has 3 new cases"),
        ({"environment": {**runs.ENVIRONMENT, "packages": {"torch": "2.14.0"}}}, "torch: 2.13.0 / 2.14.0"),
        ({}, "swbench/solvers/eigh.py changed"),
    ],
)
def test_a_change_refuses_resumption_unless_anyway(written, change, message, monkeypatch):
    if not change:
        monkeypatch.setattr(fingerprint, "code", lambda found=fingerprint.code(): {**found, "solvers/eigh.py": "0"})  # noqa: B008
    with pytest.raises(ResumeRefused, match=message):
        store.resume(written, **change)
    store.resume(written, **change, anyway=True).close()
    assert message in store.load(written).warnings[0]


def test_a_later_schema_names_the_version_to_install(written):
    header = json.loads((written / "run.json").read_text())
    (written / "run.json").write_text(json.dumps({**header, "schema": 2, "swbench": "3.1.0\x1b[2J"}))
    with pytest.raises(SchemaTooNew, match=r"Install swbench 3\.1\.02J$"):
        store.load(written)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": 1}',
        '{"schema": true}',
        '{"schema": NaN}',
        "[" * 100_000,
        '{"schema": 1, "plan": {"groups": 3}}',
        "\xff",
        f'{{"schema": 1, "created": {10**400}}}',
    ],
)
def test_a_run_file_that_is_none_is_one_message(written, text):
    (written / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(StoreError):
        store.load(written)
    assert store.runs(written.parent) == () or text.startswith('{"schema": 1, "plan')


@pytest.mark.parametrize("wrong", [{"iterations": 0}, {"replicates": 0}, {"target_ci": -1.0}, {"target_ci": 0.0}, {"seed": 10**30}])
def test_a_protocol_that_cannot_be_is_refused(written, wrong):
    header = json.loads((written / "run.json").read_text())
    header["plan"]["protocol"] |= wrong
    (written / "run.json").write_text(json.dumps(header))
    with pytest.raises(StoreError, match=r"the plan in .*run\.json is not what was written"):
        store.load(written)


def test_links_out_of_the_folder_are_not_followed(written, tmp_path):
    (tmp_path / "other").write_bytes((written / "cells.jsonl").read_bytes())
    (written / "cells.jsonl").unlink()
    (written / "cells.jsonl").symlink_to(tmp_path / "other")
    with pytest.raises(StoreError, match="is a link"):
        store.load(written)
    with pytest.raises(StoreError):
        store.resume(written)


def test_a_full_disk_is_said_at_once_and_leaves_whole_lines(tmp_path):
    plan = runs.plan()
    writer = store.RunWriter.create(tmp_path, plan, {}, "")
    runs.fill(writer, plan)
    size = (writer.path / "rounds.jsonl").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, before[1]))  # the kernel then writes 20 bytes, and refuses the rest
    try:
        with pytest.raises(StoreError, match=r"rounds\.jsonl.*choose another folder.*3 finished cells and 3 rounds are kept; go on with --resume"):
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
        with pytest.raises(StoreError, match="The run folder is gone, and with it 6 finished cells"):
            writer.finish()


def test_a_run_that_is_written_is_held(written):
    assert not store.held(written)
    with store.resume(written):
        assert store.held(written)
    assert not store.held(written)
    assert not store.held(written / "nothing")


def test_a_run_that_cannot_begin_leaves_no_folder(tmp_path, monkeypatch):
    def full(path, data):
        raise StoreError("no space")

    monkeypatch.setattr("swbench.store.writer.write_json", full)
    with pytest.raises(StoreError, match="no space"):
        store.RunWriter.create(tmp_path, runs.plan(), {}, "")
    assert list(tmp_path.iterdir()) == []


def test_a_kill_anywhere_leaves_a_readable_run(tmp_path):
    code = textwrap.dedent(f"""
        import os, signal, sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import runs
        from swbench import store
        plan = runs.plan(1, 50)
        writer = store.RunWriter.create({str(tmp_path)!r}, plan, {{}}, "")
        print("ready", flush=True)
        for replicate in range(10_000):
            runs.fill(writer, plan, replicate=replicate % 50 if replicate < 50 else replicate)
    """)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        child.stdout.readline()
        path = store.find(tmp_path, "latest")
        while (path / "cells.jsonl").stat().st_size < 2000:
            pass
        child.kill()
        child.wait()
    found = store.load(path)
    assert len(found.results) % 3 == 0
    assert len(found.rounds) == len(found.results)


def test_reading_imports_no_torch(written):
    code = f"import sys; from swbench import store; store.load({str(written)!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
