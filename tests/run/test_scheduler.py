"""The order of replicates, restarts after a crash, resuming, budget and stopping; in this process,
on a fake clock.
"""

import os

import fakes
import pytest
from fake_clock import FakeClock
from fake_executor import FakeExecutor, WorkerDied

from swbench import store
from swbench.errors import StoreError
from swbench.result import CRASHED, OK, Result, Round
from swbench.run import Interrupted, events, run
from swbench.stats.samples import pairs
from swbench.stats.stopping import Stopping


class Scripted:
    """A workload whose calls take the seconds that `seconds(case, call)` says, and that dies where
    `dies(case, call)` is true.
    """

    def __init__(self, case, clock, seconds, dies):
        self.chosen, self._case, self._clock, self._calls = {}, case, clock, 0
        self._seconds, self._dies = seconds, dies

    def call(self):
        self._calls += 1
        if self._dies(self._case, self._calls):
            raise WorkerDied
        started = self._clock.now()
        self._clock.advance(self._seconds(self._case, self._calls))
        return {
            "forward_s": self._clock.now() - started,
            "forward_backward_s": self._clock.now() - started,
        }

    def finish(self):
        return []


@pytest.fixture
def bench(tmp_path):
    """Runs a plan with scripted workloads; keeps writer, executor, clock and events."""

    class Bench:
        clock = FakeClock()
        received_events: list

        def run(
            self,
            plan,
            seconds=lambda case, call: 1.0,
            dies=lambda case, call: False,
            writer=None,
            on_event=None,
            **options,
        ):
            self.received_events = []
            self.writer = writer or store.RunWriter.create(tmp_path, plan, {}, "")
            self.executor = FakeExecutor(
                lambda case: Scripted(case, self.clock, seconds, dies), self.clock
            )
            return run(
                plan,
                self.writer,
                self.executor,
                on_event or self.received_events.append,
                now=self.clock.now,
                **options,
            )

        def of(self, kind):
            return [event for event in self.received_events if isinstance(event, kind)]

    return Bench()


def test_replicates_are_outermost(bench):
    bench.run(fakes.plan("a", groups=3, replicates=2))
    assert [(job.replicate, job.group[-1]) for job in bench.executor.jobs] == [
        (0, "1"),
        (0, "2"),
        (0, "3"),
        (1, "1"),
        (1, "2"),
        (1, "3"),
    ]


def test_every_round_has_every_case_in_an_order_that_a_seed_repeats(bench):
    plan = fakes.plan("a", "b", replicates=1, iterations=50)
    orders = []
    for _ in range(2):
        bench.run(plan)
        orders.append([round_.order for round_ in bench.writer.rounds])
    assert orders[0] == orders[1]
    assert len(set(orders[0])) > 10
    assert {frozenset(order) for order in orders[0]} == {
        frozenset(case.key for case in plan.groups[0].cases)
    }
    bench.run(fakes.plan("a", "b", replicates=1, iterations=50, seed=1))
    assert [round_.order for round_ in bench.writer.rounds] != orders[0]


def test_samples_equal_the_clock_readings(bench):
    plan = fakes.plan("a", replicates=1, iterations=3)
    bench.run(plan, seconds=lambda case, call: call + (0.5 if case.model == "a" else 0.0))
    stored = store.load(bench.writer.path)
    assert stored.results[0].samples("forward_s") == (3.0, 4.0, 5.0)
    assert stored.results[2].samples("forward_s") == (3.5, 4.5, 5.5)


def test_crash_fails_one_case_and_restarts_the_others(bench):
    plan = fakes.plan("a", "b", replicates=1, iterations=4)
    status = bench.run(plan, dies=lambda case, call: case.model == "a" and call == 4)
    assert [len(job.cases) for job in bench.executor.jobs] == [4, 3]
    stored = store.load(bench.writer.path)
    assert [result.status for result in stored.results] == [OK, OK, CRASHED, OK]
    assert [len(result.samples("forward_s")) for result in stored.results] == [4, 4, 1, 4]
    assert status.failed == 1
    (failed,) = bench.of(events.CellFailed)
    assert (failed.row, failed.status, failed.detail) == ("a", CRASHED, "killed by SIGSEGV")


def test_crashed_baseline_leaves_the_times_of_the_others(bench):
    bench.run(fakes.plan("a", replicates=1), dies=lambda case, call: case.role == "baseline")
    assert [result.status for result in store.load(bench.writer.path).results] == [CRASHED, OK, OK]


def test_events_of_a_run_come_in_order(bench):
    bench.run(fakes.plan("a", replicates=2, iterations=4))
    assert [type(event).__name__ for event in bench.received_events] == [
        "RunStarted",
        *(["ReplicateStarted"] + ["WarmupDone"] * 3 + ["RoundDone"] * 2 + ["ReplicateDone"]) * 2,
        "RunDone",
    ]
    assert bench.of(events.ReplicateDone)[0].elapsed_s == 3 * (2 + 2)


@pytest.mark.parametrize("stop_at", range(1, 16, 2))
def test_an_interrupted_run_resumes_to_the_same_cells(bench, stop_at):
    plan = fakes.plan("a", groups=2, replicates=2, iterations=4)
    count = 0

    def interrupt(event):
        nonlocal count
        count += 1
        if count == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="--resume"):
        bench.run(plan, on_event=interrupt)
    interrupted_run = store.load(bench.writer.path)
    bench.run(plan, writer=store.resume(bench.writer.path, plan, {}))
    complete_run = store.load(bench.writer.path)
    assert complete_run.complete
    assert [(result.group, result.replicate) for result in complete_run.results[::3]] == [
        (group.name, number) for number in range(2) for group in plan.groups
    ]
    assert len(complete_run.results) == 12
    assert complete_run.results[: len(interrupted_run.results)] == interrupted_run.results
    assert all(len(result.samples("forward_s")) == 2 for result in complete_run.results)
    assert len(bench.executor.jobs) == 4 - len(interrupted_run.results) // 3


def test_a_store_that_fails_ends_the_run_at_once(bench, monkeypatch):
    plan = fakes.plan("a", replicates=2)

    def full(self, round_):
        raise StoreError("no space left")

    monkeypatch.setattr(store.RunWriter, "add_round", full)
    with pytest.raises(StoreError, match="no space"):
        bench.run(plan)
    assert len(bench.executor.jobs) == 1


def test_a_budget_ends_the_run_before_the_next_replicate(bench):
    status = bench.run(fakes.plan("a", groups=2, replicates=5, budget_s=30.0))
    assert status.reason == "budget spent"
    assert len(bench.executor.jobs) == 4
    assert store.load(bench.writer.path).complete


def test_resumed_run_has_the_rest_of_its_budget(bench, tmp_path):
    """Earlier lives: a sealed replicate of 12 s, and rounds of 6 s by a worker that was killed."""
    plan = fakes.plan("a", replicates=5, budget_s=27.0)
    (group,) = plan.groups
    with store.RunWriter.create(tmp_path, plan, {}, "") as writer:
        writer.seal(
            [
                Result(
                    case=case.key,
                    group=group.name,
                    replicate=0,
                    attempt="x",
                    started=1000.0,
                    ended=1012.0,
                )
                for case in group.cases
            ]
        )
        samples = {case.key: {"forward_s": 2.0} for case in group.cases}
        writer.add_round(
            Round(
                group=group.name,
                replicate=1,
                attempt="y",
                index=0,
                order=tuple(samples),
                samples=samples,
                started=5000.0,
            )
        )
    resumed = store.resume(writer.path)
    assert resumed.spent_s == 18.0
    status = bench.run(plan, writer=resumed)  # replicates of 9 s
    assert status.reason == "budget spent"
    assert [job.replicate for job in bench.executor.jobs] == [1]


def test_optional_stopping_decides_for_each_group_separately(bench):
    def seconds(case, call):
        return 1.0 + (
            0.3 * (len(bench.executor.jobs) % 4) if case.batch == 2 and case.model == "a" else 0.0
        )

    status = bench.run(
        fakes.plan("a", groups=2, replicates=1, target_ci=0.01),
        seconds=seconds,
        stopping=Stopping(0.01, looks=(2, 6)),
    )
    assert [job.group[-1] for job in bench.executor.jobs].count("1") == 2
    assert [job.group[-1] for job in bench.executor.jobs].count("2") == 6
    assert "target reached" in bench.of(events.GroupSettled)[0].reason
    assert "most replicates done" in bench.of(events.GroupSettled)[1].reason
    assert status.reason == "all replicates done"


def test_stopping_uses_the_samples_that_the_report_shows(bench):
    """A variant that takes its worker down twice leaves rounds beside a baseline that is measured
    again: neither may count them.
    """

    class Heard(Stopping):
        def decide(self, rows, **options):
            seen.append(rows)
            return super().decide(rows, **options)

    seen = []
    plan = fakes.plan("a", "b", groups=1, replicates=1, iterations=4, target_ci=0.01)
    bench.run(
        plan,
        dies=lambda case, call: (
            case.model == "a" and call == 4 and len(bench.executor.jobs) in (1, 3)
        ),
        stopping=Heard(0.01, looks=(3,)),
    )
    (judged,) = seen
    run, (group,) = store.load(bench.writer.path), plan.groups
    for (key, metric), replicate_pairs in judged.items():
        assert len(replicate_pairs) == 3
        assert [values for values in replicate_pairs if values] == [
            values for values in pairs(run.rounds, group.baseline.key, key, metric) if values
        ]
    assert [len(values) for values in judged[group.cases[2].key, "forward_s"]] == [0, 0, 4]


def test_run_whose_groups_all_reach_their_target_reports_it(bench):
    status = bench.run(
        fakes.plan("a", groups=2, replicates=1, target_ci=0.01),
        stopping=Stopping(0.01, looks=(2, 6)),
    )
    assert status.reason == "precise enough"
    assert store.load(bench.writer.path).header["reason"] == "precise enough"


def test_a_settled_group_stays_settled_when_resumed(bench):
    plan = fakes.plan("a", groups=1, replicates=1, target_ci=0.01)
    stop = Stopping(0.01, looks=(2, 6))
    with pytest.raises(Interrupted):
        bench.run(
            plan,
            stopping=stop,
            on_event=lambda event: (
                (_ for _ in ()).throw(KeyboardInterrupt)
                if isinstance(event, events.GroupSettled)
                else None
            ),
        )
    bench.run(plan, stopping=stop, writer=store.resume(bench.writer.path))
    assert bench.executor.jobs == []
    assert len(store.load(bench.writer.path).results) == 6


def test_slow_disk_is_reported_once(bench, monkeypatch):
    plan = fakes.plan("a", replicates=3)
    synced = os.fsync

    def slowly(handle):
        bench.clock.advance(3.0)
        synced(handle)

    monkeypatch.setattr(os, "fsync", slowly)
    assert bench.run(plan).failed == 0
    (event,) = bench.of(events.DiskSlow)
    # the rounds, then the cells
    assert event == events.DiskSlow(path=bench.writer.path, seconds=6.0)
    assert len(store.load(bench.writer.path).results) == 9


def test_fast_disk_is_not_reported(bench):
    bench.run(fakes.plan("a"))
    assert bench.of(events.DiskSlow) == []
