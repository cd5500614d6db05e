"""The estimate of a run compared with the time it takes, on a fake clock."""

import dataclasses
import random

import fakes
import pairs
import pytest
from fake_clock import FakeClock
from fake_executor import FakeExecutor

from swbench import store
from swbench.result import COUNTED, FLOPS, Measurement, Result
from swbench.run import Interrupted, events, run
from swbench.run.eta import EtaEstimator

START_S = 5.0


class Sized:
    """Building takes five seconds, a call the number of its batch in seconds; batches above `fits`
    have no memory.
    """

    def __init__(self, case, clock, fits):
        self.chosen, self._case, self._clock = {}, case, clock
        if case.batch > fits:
            raise MemoryError
        clock.advance(START_S if case.role == "baseline" else 0.0)

    def call(self):
        self._clock.advance(self._case.batch)
        return {"forward_s": 0.3 * self._case.batch, "forward_backward_s": float(self._case.batch)}

    def finish(self):
        return []


def scattered(first_s):
    """A kind of case whose calls of a batch above 1 take up to 40 % longer, at random; the first
    case of all takes `first_s` seconds more to build, as where it compiles.
    """
    draw, extra = random.Random(0), [first_s]

    class Scattered(Sized):
        def __init__(self, case, clock, fits):
            super().__init__(case, clock, fits)
            clock.advance(extra.pop() if extra else 0.0)

        def call(self):
            longer = 1 + 0.4 * draw.random() * (self._case.batch > 1)
            self._clock.advance(self._case.batch * longer)
            return {"forward_s": 0.3 * longer, "forward_backward_s": longer}

    return Scattered


@pytest.fixture
def measure(tmp_path):
    """Runs a plan whose groups take as long a call as their batch says; returns the estimates, each
    with the rounds before it, and the time the run took.
    """

    def measure(plan, counted=(), fits=1000, kind=Sized):
        clock, estimates, received_events = FakeClock(), [], []
        eta_estimator = EtaEstimator(clock.now)
        writer = store.RunWriter.create(tmp_path, plan, {}, "")
        for group in counted:
            seal = [
                Result(
                    case=c.key,
                    group=group.name,
                    replicate=COUNTED,
                    attempt="c",
                    measurements=(Measurement(FLOPS, "1", (7.0,)),),
                )
                for c in group.cases
            ]
            writer.seal(seal)

        def update(event):
            received_events.append(event)
            if (expected := eta_estimator.update(event)) is not None:
                estimates.append(
                    (
                        sum(isinstance(event, events.RoundDone) for event in received_events),
                        expected,
                    )
                )

        run(
            plan,
            writer,
            FakeExecutor(lambda case: kind(case, clock, fits), clock),
            update,
            now=clock.now,
        )
        return estimates, clock.now()

    return measure


def test_estimate_scales_a_group_twenty_times_larger_by_flops(measure):
    plan = fakes.plan(
        "a", groups=20, replicates=2, iterations=20, warmup_calls=3, warmup_s=2.0, warmup_cap_s=6.0
    )
    plan = type(plan).from_json(
        {**plan.to_json(), "groups": [plan.groups[0].to_json(), plan.groups[19].to_json()]}
    )
    estimates, took_s = measure(plan, counted=plan.groups)
    (after, early), (later, final) = estimates
    assert after == 3
    assert early.scaled == (plan.groups[1].name,)
    assert early.seconds == pytest.approx(took_s, rel=0.05)
    assert later == 10 + 2  # two long rounds are enough
    assert (final.scaled, final.without_rounds) == ((), ())
    assert final.seconds == pytest.approx(took_s, rel=0.01)


def test_first_estimate_without_flops_names_the_missing_groups(measure):
    estimates, took_s = measure(fakes.plan("a", groups=2, replicates=2, iterations=10))
    assert [expected.without_rounds for _, expected in estimates] == [("cpu batch 2",), ()]
    assert estimates[-1][1].seconds == pytest.approx(took_s, rel=0.01)


def test_the_first_estimate_from_a_fallback_scales_what_was_counted(measure):
    """Of a fallback nothing was counted before the run: an image of it has the operations of one of
    the batch in whose place it is measured.
    """
    plan = fakes.plan(
        "a", groups=20, replicates=2, iterations=20, warmup_calls=3, warmup_s=2.0, warmup_cap_s=6.0
    )
    first, second, other = (
        plan.groups[15],
        dataclasses.replace(plan.groups[7], fallback_of=plan.groups[15].name),
        plan.groups[1],
    )
    plan = dataclasses.replace(plan, groups=(first, second, other))
    estimates, took_s = measure(plan, counted=(first, other), fits=8)
    assert [(expected.scaled, expected.without_rounds) for _, expected in estimates] == [
        ((other.name,), ()),
        ((), ()),
    ]
    assert estimates[0][1].seconds == pytest.approx(took_s, rel=0.05)


def test_with_a_target_each_look_corrects_the_estimate(measure):
    plan = fakes.plan(
        "a", "b", groups=2, replicates=8, iterations=80, warmup_s=0.0, warmup_cap_s=0.0,
        target_ci=0.04, estimator="faster-half",
    )  # fmt: skip
    estimates, took_s = measure(plan, kind=scattered(first_s=200.0))
    *_, (rounds_before, last) = estimates
    assert rounds_before % (4 * 10) == 0
    assert last.fewest == 4
    # the first replicate's 200 s are its own
    assert last.seconds == pytest.approx(took_s - 200.0, rel=0.01)


def test_run_with_few_rounds_gets_no_estimate(measure):
    assert measure(fakes.plan("a", replicates=1, iterations=2))[0] == []


@pytest.fixture
def bench(tmp_path):
    return pairs.Bench(tmp_path)


class EstimateRecorder:
    """The estimates that a run's events give, with the replicate in which each came."""

    def __init__(self, bench):
        self._bench, self._eta, self.estimates = bench, EtaEstimator(bench.gpu.clock.now), []

    def __call__(self, event):
        if (expected := self._eta.update(event)) is not None:
            self.estimates.append((getattr(event, "replicate", None), expected))


@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("capacity_bytes", [2, 3, 4])
def test_estimate_includes_every_pair(bench, device, capacity_bytes):
    estimates, began = EstimateRecorder(bench), bench.gpu.clock.now()
    bench(pairs.plan(device, replicates=4, iterations=80), capacity_bytes, on_event=estimates)
    ((replicate, expected),) = estimates.estimates
    assert replicate == 0
    assert expected.seconds == pytest.approx(bench.gpu.clock.now() - began, rel=0.1)


def test_estimate_of_a_resumed_run_includes_every_pair(bench):
    made = pairs.plan(replicates=4, iterations=80)

    def stop(event):
        if isinstance(event, events.ReplicateDone):
            raise KeyboardInterrupt

    began = bench.gpu.clock.now()
    with pytest.raises(Interrupted):
        bench(made, 3, on_event=stop)
    estimates = EstimateRecorder(bench)
    bench(made, 3, writer=store.resume(bench.writer.path, made, {}), on_event=estimates)
    ((replicate, expected),) = estimates.estimates
    assert replicate == 1
    assert expected.seconds == pytest.approx(bench.gpu.clock.now() - began, rel=0.1)
