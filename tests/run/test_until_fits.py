"""Batches from the largest down: each that runs out of memory keeps its cells, and the first at
which every case fits gets all its replicates.
"""

import dataclasses

import fakes
import pytest
from fake_clock import FakeClock
from fake_executor import FakeExecutor

from swbench import store
from swbench.case import BASELINE, CONTROL, VARIANT
from swbench.result import COUNTED, CRASHED, FLOPS, OK, OUT_OF_MEMORY, Measurement, Result
from swbench.run import Interrupted, events, run
from swbench.run.eta import EtaEstimator
from swbench.stats.stopping import Stopping

BATCHES = (16, 8, 4)
DETAIL = "peak 3.00 GiB of 4.00 GiB; CUDA out of memory. Tried to allocate 2.00 GiB."


def plan(replicates=2, **protocol):
    """A chain of three batches, with a baseline, a control and the variants a and b."""
    made = fakes.plan("a", "b", replicates=replicates, **protocol)
    groups, before = [], None
    for batch in BATCHES:
        cases = tuple(
            dataclasses.replace(case, device="cuda", threads=0, batch=batch)
            for case in made.groups[0].cases
        )
        groups.append(
            dataclasses.replace(
                made.groups[0], name=f"cuda batch {batch}", cases=cases, fallback_of=before
            )
        )
        before = groups[-1].name
    return dataclasses.replace(made, groups=tuple(groups))


class LimitedDevice:
    """A workload that runs out of memory where `full(case)` is true, with the message of a real
    one.
    """

    def __init__(self, case, clock, full):
        self.chosen, self._case, self._clock = {}, case, clock
        if full(case):
            raise MemoryError(DETAIL)

    def call(self):
        self._clock.advance(self._case.batch)
        return {"forward_s": 0.3 * self._case.batch, "forward_backward_s": float(self._case.batch)}

    def finish(self):
        return []


@pytest.fixture
def measure(tmp_path):
    """`measure(plan, full)` runs it, and keeps `received_events`, `estimates` and `jobs`."""

    class Bench:
        def __call__(self, plan, full, writer=None, on_event=lambda event: None, **options):
            clock = FakeClock()
            self.received_events, self.estimates, eta = [], [], EtaEstimator(clock.now)

            def update(event):
                self.received_events.append(event)
                self.estimates += [expected] if (expected := eta.update(event)) is not None else []
                on_event(event)

            self.executor = FakeExecutor(lambda case: LimitedDevice(case, clock, full), clock)
            self.writer = writer or store.RunWriter.create(tmp_path, plan, {}, "")
            status = run(plan, self.writer, self.executor, update, now=clock.now, **options)
            return status, store.load(self.writer.path)

    return Bench()


def statuses(stored):
    """(group, replicate) -> the status of each case, in the order of the group."""
    made = {}
    for result in stored.results:
        made.setdefault((result.group, result.replicate), []).append(result.status)
    return made


def variant_b_above(batch):
    return lambda case: case.model == "b" and case.batch > batch


FITS = [OK] * 4
LACKS_B = [OK, OK, OK, OUT_OF_MEMORY]


def test_largest_batch_that_fits_is_the_only_one_measured(measure):
    status, stored = measure(plan(), lambda case: False)
    assert statuses(stored) == {("cuda batch 16", 0): FITS, ("cuda batch 16", 1): FITS}
    assert (status.exit_code, status.reason, stored.complete) == (0, "all replicates done", True)
    assert not [event for event in measure.received_events if isinstance(event, events.FallingBack)]


def test_one_variant_out_of_memory_makes_the_next_batch_due(measure):
    status, stored = measure(plan(), variant_b_above(8))
    assert statuses(stored) == {
        ("cuda batch 16", 0): LACKS_B,
        ("cuda batch 8", 0): FITS,
        ("cuda batch 8", 1): FITS,
    }
    assert status.exit_code == 3, "a case out of memory is told by the exit code, as ever"
    (failed,) = [result for result in stored.results if result.status == OUT_OF_MEMORY]
    assert failed.detail == DETAIL
    assert failed.case == stored.plan.groups[0].cases[3].key
    assert [
        (event.group, event.fallback)
        for event in measure.received_events
        if isinstance(event, events.FallingBack)
    ] == [("cuda batch 16", "cuda batch 8")]
    jobs = [[case.model for case in job.cases] for job in measure.executor.jobs]
    assert jobs[0] == jobs[-2] == jobs[-1] == ["good", "good", "a", "b"]
    assert ["good", "good", "a"] in jobs[1:-2], (
        "after a case without memory the others have a clean worker"
    )


def test_third_batch_is_measured_where_two_do_not_fit(measure):
    _, stored = measure(plan(), variant_b_above(4))
    expected = {
        ("cuda batch 16", 0): LACKS_B,
        ("cuda batch 8", 0): LACKS_B,
        ("cuda batch 4", 0): FITS,
        ("cuda batch 4", 1): FITS,
    }
    assert statuses(stored) == expected
    assert len({result.case for result in stored.results}) == 12, "each batch is a case of its own"


def test_smallest_batch_gets_all_replicates_where_none_fits(measure):
    status, stored = measure(plan(), variant_b_above(1))
    last = {("cuda batch 4", 0): LACKS_B, ("cuda batch 4", 1): LACKS_B}
    assert statuses(stored) == {("cuda batch 16", 0): LACKS_B, ("cuda batch 8", 0): LACKS_B} | last
    assert (stored.complete, status.failed) == (True, 4)
    nothing = measure(plan(), lambda case: True)[1]
    assert set(map(tuple, statuses(nothing).values())) == {(OUT_OF_MEMORY,) * 4}
    assert len(nothing.results) == 16


@pytest.mark.parametrize("role", [BASELINE, CONTROL, VARIANT])
def test_baseline_and_control_must_fit_as_well(measure, role):
    _, stored = measure(plan(), lambda case: case.role == role and case.batch == 16)
    assert [group for group, _ in statuses(stored)] == [
        "cuda batch 16",
        "cuda batch 8",
        "cuda batch 8",
    ]


def test_crash_makes_no_fallback_due(measure):
    class Crash(Exception):
        pass

    def crashes(case):
        if case.model == "a":
            raise Crash

    _, stored = measure(plan(iterations=10), crashes)
    assert statuses(stored) == {
        ("cuda batch 16", number): [OK, OK, CRASHED, OK] for number in range(2)
    }
    assert measure.estimates[0].fallbacks == ("cuda batch 8", "cuda batch 4"), (
        "nor does the estimate take it for that"
    )


def test_late_out_of_memory_is_followed_by_every_replicate_of_the_fallback(measure):
    seen = []

    def late(case):
        seen.append(case)
        return case.model == "b" and case.batch == 16 and len(seen) > 4

    _, stored = measure(plan(replicates=3), late)
    expected = {("cuda batch 16", 0): FITS, ("cuda batch 16", 1): LACKS_B}
    assert statuses(stored) == expected | {("cuda batch 8", number): FITS for number in range(3)}


def late_at(replicate):
    """Variant b at batch 16 is out of memory from that replicate on."""
    built = 0

    def late(case):
        nonlocal built
        built += case.model == "b" and case.batch == 16
        return case.model == "b" and case.batch == 16 and built > replicate

    return late


@pytest.mark.parametrize("late", [1, 2, 3])
def test_a_fallback_that_is_due_late_begins_with_its_first_replicate(measure, late):
    looked = []

    class Heard(Stopping):
        def decide(self, rows, **options):
            looked.append([list(map(bool, replicates)) for replicates in rows.values()])
            return super().decide(rows, **options)

    status, stored = measure(plan(target_ci=0.5), late_at(late), stopping=Heard(0.5, looks=(4, 8)))
    assert [number for group, number in statuses(stored) if group == "cuda batch 16"] == list(
        range(late + 1)
    )
    assert [number for group, number in statuses(stored) if group == "cuda batch 8"] == [0, 1, 2, 3]
    (settled,) = [
        event for event in measure.received_events if isinstance(event, events.GroupSettled)
    ]
    assert (settled.group, settled.replicates) == ("cuda batch 8", 4)
    assert looked == [[[True] * 4] * 6], (
        "one look, of three rows and two passes, at replicates that are all there"
    )
    assert status.reason == "precise enough"


@pytest.mark.parametrize("stop_at", range(1, 38, 2))
def test_run_stopped_anywhere_resumes_to_the_same_cells(measure, stop_at):
    complete_statuses = statuses(measure(plan(), variant_b_above(4))[1])
    count = 0

    def stop(event):
        nonlocal count
        count += 1
        if count == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="--resume"):
        measure(plan(), variant_b_above(4), on_event=stop)
    interrupted_run = store.load(measure.writer.path)
    assert not interrupted_run.complete
    _, stored = measure(
        plan(), variant_b_above(4), writer=store.resume(measure.writer.path, plan(), {})
    )
    assert statuses(stored) == complete_statuses
    assert list(statuses(stored)) == list(complete_statuses), "and in the same order"
    assert stored.results[: len(interrupted_run.results)] == interrupted_run.results
    begun = measure.received_events[0]
    assert begun.ran_out == {
        result.group for result in interrupted_run.results if result.status == OUT_OF_MEMORY
    }


def test_resume_is_refused_where_other_batches_would_be_tried(measure):
    def stop(event):
        if isinstance(event, events.ReplicateDone):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        measure(plan(), variant_b_above(4), on_event=stop)
    every = dataclasses.replace(
        plan(),
        groups=tuple(dataclasses.replace(group, fallback_of=None) for group in plan().groups),
    )
    with pytest.raises(store.resuming.ResumeRefused, match="only where a larger one does not fit"):
        store.resume(measure.writer.path, every, {})


def test_estimate_names_the_fallbacks(measure):
    measure(plan(iterations=10, replicates=2, warmup_calls=1), lambda case: False)
    (estimates,) = measure.estimates
    assert estimates.fallbacks == ("cuda batch 8", "cuda batch 4")
    assert estimates.line().endswith("; cuda batch 8, cuda batch 4 only if memory runs out before")


def test_the_estimate_is_of_the_batch_that_fits(measure):
    measure(plan(iterations=10, replicates=2, warmup_calls=1), variant_b_above(8))
    (estimates,) = measure.estimates
    assert estimates.fallbacks == ("cuda batch 4",)
    assert estimates.seconds == pytest.approx(2 * 4 * 8 * (1 + 5)), (
        "two replicates of a warm-up and five rounds, of four cases at eight seconds"
    )


def test_optional_stopping_uses_the_batch_that_fits(measure):
    settled, stored = measure(plan(iterations=8, target_ci=0.5), variant_b_above(8))
    assert settled.reason == "precise enough"
    assert [
        event.group for event in measure.received_events if isinstance(event, events.GroupSettled)
    ] == ["cuda batch 8"]
    assert [number for group, number in statuses(stored) if group == "cuda batch 16"] == [0]


def test_a_fallback_has_the_counts_of_the_batch_before_it(measure, tmp_path):
    made = plan()
    writer = store.RunWriter.create(tmp_path / "counted", made, {}, "")
    first = made.groups[0]
    counted = [Measurement(FLOPS, "1", (7.0,))]
    writer.seal(
        [
            Result(
                case=case.key,
                group=first.name,
                replicate=COUNTED,
                attempt="c",
                measurements=tuple(counted),
            )
            for case in first.cases
        ]
    )
    _, stored = measure(made, variant_b_above(8), writer=writer)
    known = {
        (result.group, result.samples(FLOPS))
        for result in stored.results
        if result.replicate == COUNTED
    }
    assert known == {("cuda batch 16", (7.0,)), ("cuda batch 8", (7.0,))}
