"""A run has one writer; resuming keeps sealed cells, and a change refuses it by name."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import runs

import swbench
from swbench import store
from swbench.errors import ResumeRefused, StoreBusy
from swbench.store import fingerprint


def test_a_second_writer_is_refused_with_the_pid_of_the_first(written):
    code = (
        f"import sys; from swbench import store; w = store.resume({str(written)!r}); "
        "print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "ready\n"
        with pytest.raises(StoreBusy, match=f"process {first.pid};"):
            store.resume(written)
        first.kill()
        first.wait()
    store.resume(written).close()


def test_resume_keeps_sealed_cells_and_drops_the_rest(written):
    with store.resume(
        written, runs.plan(), {**runs.ENVIRONMENT, "now": {"load": 7.0}}, command="again"
    ) as writer:
        assert [writer.sealed(group.name, 0) for group in writer.plan.groups] == [True, False]
        runs.fill(writer, writer.plan, group=1, attempt="c")
    assert {round_.attempt for round_ in store.load(written).rounds} == {"a", "c"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"plan": runs.plan(replicates=4)}, "protocol.iterations was 6 and is 12"),
        ({"plan": runs.plan(groups=3)}, "the suite has 3 new cases"),
        (
            {"environment": {**runs.ENVIRONMENT, "packages": {"torch": "2.14.0"}}},
            "torch: 2.13.0 / 2.14.0",
        ),
        ({}, "swbench/solvers/eigh.py changed"),
    ],
)
def test_resume_is_refused_after_a_change_unless_anyway(written, change, message, monkeypatch):
    if not change:
        changed = {**fingerprint.code(), "solvers/eigh.py": "0"}
        monkeypatch.setattr(fingerprint, "code", lambda: changed)
    with pytest.raises(ResumeRefused, match=message):
        store.resume(written, **change)
    store.resume(written, **change, anyway=True).close()
    assert message in store.load(written).warnings[0]


def test_resumed_run_of_an_earlier_schema_keeps_its_lines(tmp_path):
    path = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "schema-1", path)
    header = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**header, "complete": False}))
    lines = (path / "rounds.jsonl").read_bytes().splitlines(keepends=True)
    (path / "rounds.jsonl").write_bytes(b"".join(lines[:9]))
    cells = (path / "cells.jsonl").read_bytes().splitlines(keepends=True)
    (path / "cells.jsonl").write_bytes(b"".join(cells[:9]))
    with store.resume(path, anyway=True) as writer:
        runs.fill(writer, writer.plan, group=1, replicate=1, attempt="new")
        writer.finish()
    header, stored = json.loads((path / "run.json").read_text()), store.load(path)
    assert (header["schema"], header["needs"]) == (3, swbench.__version__)
    assert (path / "rounds.jsonl").read_bytes().startswith(b"".join(lines[:9]))
    assert [bool(round_.blocks) for round_ in stored.rounds] == [False] * 9 + [True] * 3


def test_resumed_run_of_schema_2_keeps_every_cell_and_sample(tmp_path):
    """Stored by the version that wrote schema 2: cells measured in pairs, a cell that crashed after
    one round, a group without memory, and a round of a replicate that was not sealed.
    """
    path = tmp_path / "old"
    shutil.copytree(Path(__file__).parent / "unfinished-schema-2", path)
    before = store.load(path)
    assert [result.status for result in before.results] == (
        ["ok"] * 8 + ["crashed"] + ["out_of_memory"] * 3
    )
    assert [len(result.samples("forward_s")) for result in before.results] == (
        [0] * 3 + [6, 3, 3] + [3, 3, 1] + [0] * 3
    )
    assert before.results[3].also == ("b",)
    assert before.results[8].samples("forward_s") == (2.1,)
    assert sum(bool(round_.blocks) for round_ in before.rounds) == 10
    with pytest.raises(ResumeRefused, match=r"began otherwise: .* go on with --resume --anyway"):
        store.resume(path)
    with store.resume(path, anyway=True) as writer:
        assert [
            writer.sealed(group.name, number)
            for group in writer.plan.groups
            for number in (-1, 0, 1)
        ] == [True, True, True, False, True, False]
        runs.fill(writer, writer.plan, group=1, replicate=1, attempt="new")
        writer.finish()
    after = store.load(path)
    assert after.results[:12] == before.results
    assert after.rounds[:10] == before.rounds
    assert {round_.attempt for round_ in after.rounds[10:]} == {"new"}
    assert [result.samples("forward_s") for result in after.results[12:]] == [
        (0.1 + position,) * 3 for position in range(3)
    ]


def test_run_that_is_being_written_is_held(written):
    assert not store.held(written)
    with store.resume(written):
        assert store.held(written)
    assert not store.held(written)
    assert not store.held(written / "nothing")
