"""A worker that is stopped or frozen in mid-round: the round is marked by the fixed rule, and
tables and comparisons say so.
"""

import dataclasses
import os
from pathlib import Path

import fakes
import pytest

from swbench import store
from swbench.formatting import significant
from swbench.probes.disturbance import Reader
from swbench.report.build import build_table
from swbench.report.compare import compare
from swbench.report.table_comparison import comparison_table
from swbench.run import SubprocessExecutor, run
from swbench.stats.disturbance_rule import absences
from swbench.stats.samples import disturbed

HERE = str(Path(fakes.__file__).parent)
ROUNDS, CALL = 20, 8
"""The worker is held up in its 8th call, the 6th round after two calls of warm-up."""

pytestmark = pytest.mark.skipif(
    not Reader()._active(), reason="this kernel does not say when a thread ran (schedstat)"
)


def measured(tmp_path, act):
    """A run of one worker whose variant does `act` in its 8th call."""
    plan = fakes.plan(f"{CALL}:{act}", replicates=1, iterations=ROUNDS)
    writer = store.RunWriter.create(tmp_path, plan, {}, "test")
    run(
        plan,
        writer,
        SubprocessExecutor(writer.path / "logs", paths=[HERE]),
        workloads=fakes.TARGETS,
    )
    return store.load(writer.path)


def is_marked(stored, least_s):
    """The one round is marked, and the time for which its worker was away is known."""
    rounds = sorted(stored.rounds, key=lambda round_: round_.index)
    assert len(rounds) == ROUNDS
    marks = disturbed(rounds, stored.plan.groups[0].baseline_key)
    assert marks[rounds[CALL - 3].place] == frozenset(rounds[0].samples)
    away = absences([round_.disturbance for round_ in rounds])
    waited_s = rounds[CALL - 3].disturbance.get("pressure_io_s", 0.0)  # anybody's, for a disk
    assert max(away) + waited_s >= 0.95 * least_s
    return away


@pytest.mark.parametrize(("act", "least_s"), [("stop_briefly", 0.3), ("stop_long", 3.0)])
def test_round_with_a_stopped_worker_is_marked_and_reported(tmp_path, act, least_s):
    stored = measured(tmp_path, act)
    away = is_marked(stored, least_s)
    expected = (
        f"{len(away)} of {ROUNDS} rounds the worker did not run, for up to "
        f"{significant(max(away), 2)} s: stopped, frozen, suspended, or its core taken away."
    )
    table = build_table(stored)
    assert any(note.startswith("Disturbed rounds") and expected in note for note in table.notes)
    assert any("not running in" in text for name, text in table.footer if name == "Machine")
    both = compare(stored, dataclasses.replace(stored, id="B"), differences=())
    warnings = comparison_table(both).warnings
    assert [f"STOPPED: {name}: in {expected}" in warnings for name in (stored.id, "B")] == [
        True,
        True,
    ]


@pytest.fixture
def freezer(monkeypatch):
    """A control group that can be frozen: of version 1's freezer, or of version 2."""
    kinds = {
        "/sys/fs/cgroup/freezer": ("FROZEN > {}/freezer.state", "THAWED > {}/freezer.state"),
        "/sys/fs/cgroup": ("1 > {}/cgroup.freeze", "0 > {}/cgroup.freeze"),
    }
    for above, acts in kinds.items():
        folder = Path(above) / f"swbench-freezer-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        if Path(acts[0].format(folder).partition("> ")[2]).exists():
            break
        folder.rmdir()
    else:
        pytest.skip("no control group that can be frozen may be made here")
    monkeypatch.setenv("SWBENCH_FREEZER_TEST", str(folder))
    for name, act in zip(("SWBENCH_FREEZE", "SWBENCH_THAW"), acts, strict=True):
        monkeypatch.setenv(name, f"echo {act.format(folder)}")
    yield folder
    folder.rmdir()


def test_round_with_a_frozen_worker_is_marked(tmp_path, freezer):
    is_marked(measured(tmp_path, "freeze"), 0.3)


def test_undisturbed_run_has_no_note_on_stopped_workers(tmp_path):
    stored = measured(tmp_path, "print")
    assert all("idle_s" in round_.disturbance for round_ in stored.rounds)
    away = absences([round_.disturbance for round_ in stored.rounds])
    assert not [seconds for seconds in away if seconds > 0.1]
