"""The self-test of a simulated instrument: a correct one passes; a biased, insensitive or broken
one does not.
"""

import math
import random

import pytest

from swbench import selftest as selftests
from swbench.result import Round
from swbench.selftest import (
    FAILED,
    INCONCLUSIVE,
    PASSED,
    SKIPPED,
    Outcome,
    judging,
    overall,
    plans,
    selftest,
)
from swbench.selftest.measuring import RunIncomplete
from swbench.selftest.workloads import DELAY, LENGTH, known_value
from swbench.stats.intervals import Interval


@pytest.fixture(scope="module", autouse=True)
def replayed_once():
    """The simulated runs depend on no instrument: they are the same for every test here."""
    outcomes = list(selftests.replays(200, False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selftests, "replays", lambda runs, long: iter(outcomes))
        yield


def instrument(between=0.003, bias=1.0, overhead_s=2e-7, backwards=False, stolen=1.0):
    """A stand-in for the engine that reads the truth with a given error; `bias` is on every case
    but the baseline, and a delay shrinks by `stolen`.
    """

    def measure(plan, target):
        rng, group, rounds = random.Random(1), plan.groups[0], []
        for replicate in range(plan.protocol.replicates):
            own = {case.key: math.exp(rng.gauss(0, between)) for case in group.cases}
            for index in range(plan.protocol.rounds):
                samples = {}
                for case in group.cases:
                    if target == plans.SPIN_TARGET:
                        samples[case.key] = {
                            "true_s": known_value(case, LENGTH),
                            "forward_s": known_value(case, LENGTH) * bias + overhead_s,
                        }
                        continue
                    noise = (
                        own[case.key]
                        * math.exp(rng.gauss(0, 0.01))
                        * (bias if case.role != "baseline" else 1.0)
                    )
                    forward = 0.02 * (1 + known_value(case, DELAY) / stolen) * noise
                    samples[case.key] = {
                        "forward_s": forward,
                        "forward_backward_s": forward * (0.5 if backwards else 3),
                        "forward_cpu_s": forward / stolen,
                        "forward_backward_cpu_s": forward * 3 / stolen,
                    }
                rounds.append(
                    Round(
                        group=group.name,
                        replicate=replicate,
                        attempt="1",
                        index=index,
                        order=tuple(samples),
                        samples=samples,
                    )
                )
        return rounds

    return measure


def outcomes(measure):
    return {
        outcome.name: outcome for outcome in selftest(measure=measure, no_gpu=lambda: "not here")
    }


def test_a_sound_instrument_passes_everything():
    outcomes_by_name = outcomes(instrument())
    assert {outcome.verdict for outcome in outcomes_by_name.values()} == {PASSED, SKIPPED}, (
        outcomes_by_name
    )
    assert overall(list(outcomes_by_name.values())) == PASSED
    assert {
        "A/A F",
        "A/A F+B",
        "F + 0 %",
        "F+B + 2 %",
        "F+B + 5 %",
        "spin of 500 ms",
        "overhead a sample",
        "invariants",
    } <= set(outcomes_by_name)


def test_a_biased_instrument_fails_where_it_is_biased():
    outcomes_by_name = outcomes(instrument(bias=1.02))
    for name in ("A/A F", "F + 0 %", "F+B + 5 %", "spin of 20 ms"):
        assert outcomes_by_name[name].verdict == FAILED, outcomes_by_name[name]
    assert overall(list(outcomes_by_name.values())) == FAILED


def test_a_noisy_machine_is_inconclusive_and_no_failure():
    outcomes_by_name = outcomes(instrument(between=0.05))
    assert outcomes_by_name["A/A F"].verdict == INCONCLUSIVE
    assert "too noisy to tell" in outcomes_by_name["F + 2 %"].result
    assert "processes" in outcomes_by_name["F + 2 %"].result
    assert overall(list(outcomes_by_name.values())) == INCONCLUSIVE


def test_a_busy_machine_is_inconclusive_with_a_remedy_and_never_a_wrong_pass():
    outcomes_by_name = outcomes(instrument(stolen=2.3))
    assert outcomes_by_name["F + 5 %"].verdict == INCONCLUSIVE
    assert "busy" in outcomes_by_name["F + 5 %"].result
    assert all(
        outcome.remedy for outcome in outcomes_by_name.values() if outcome.verdict == INCONCLUSIVE
    )
    assert overall(list(outcomes_by_name.values())) == INCONCLUSIVE


def test_a_heavy_stopwatch_and_broken_invariants_fail():
    outcomes_by_name = outcomes(instrument(overhead_s=5e-5, backwards=True))
    assert outcomes_by_name["overhead a sample"].verdict == FAILED
    assert outcomes_by_name["spin of 5 ms"].verdict == FAILED
    assert outcomes_by_name["invariants"].verdict == FAILED


def test_an_engine_that_does_not_finish_is_a_failed_outcome():
    def measure(plan, target):
        raise RunIncomplete("crashed: signal 9")

    outcomes_by_name = outcomes(measure)
    assert outcomes_by_name["delays"] == Outcome(
        "delays", FAILED, "crashed: signal 9", "the engine measures every cell"
    )


def test_invariants_without_samples_fail():
    assert judging.invariants([], 1).verdict == FAILED


def around(ratio, half, confidence=0.95):
    return Interval(ratio, ratio * math.exp(-half), ratio * math.exp(half), confidence, 16)


@pytest.mark.parametrize(
    ("interval", "floor", "must_see", "verdict"),
    [
        (around(1.05, 0.01), around(1, 0.01), True, PASSED),
        (around(1.05, 0.06), around(1, 0.01), True, INCONCLUSIVE),  # too wide to exclude 1
        (around(1.05, 0.01), around(1, 0.06), True, INCONCLUSIVE),  # drowned in the noise floor
        (around(1.002, 0.01), around(1, 0.01), True, FAILED),  # quiet, and yet not seen
        (around(1.002, 0.01), around(1, 0.01), False, INCONCLUSIVE),
    ],
)
def test_a_delay_is_seen_or_excused_by_noise(interval, floor, must_see, verdict):
    assert (
        judging.delayed("x", 0.05, interval, around(1.05, 0.1, 0.999), floor, must_see).verdict
        == verdict
    )


def test_a_delay_that_is_seen_but_hardly_measured_is_no_pass():
    """1.09 [1.02, 1.17] is slower, and holds 1.05; it would hold 1.02 and 1.15 as well."""
    outcome = judging.delayed(
        "x", 0.05, around(1.09, 0.066), around(1.09, 0.2, 0.999), around(1, 0.01), must_see=True
    )
    assert outcome.verdict == INCONCLUSIVE
    assert "doctor" in outcome.remedy


@pytest.mark.parametrize("strict", [around(1.02, 0.01, 0.999), around(1.05, 0.01, 0.999)])
def test_a_delay_under_contention_is_inconclusive(strict):
    interval = around(strict.estimate if strict.holds(1.05) else 1.02, 0.005)
    held = strict.holds(1.05)
    assert judging.delayed("x", 0.05, interval, strict, around(1, 0.01), True).verdict == (
        PASSED if held else FAILED
    )
    busy = judging.delayed("x", 0.05, interval, strict, around(1, 0.01), True, contended=2.3)
    assert busy.verdict == INCONCLUSIVE
    assert "2.30 times its CPU time" in busy.result
    assert busy.remedy


def test_contention_is_wall_over_cpu_time_at_the_median():
    assert judging.contention([(1.0, 1.0), (3.0, 1.0), (2.2, 2.0), (1.0, 0.0)]) == pytest.approx(
        1.1
    )
    assert judging.contention([(1.0, 0.0)]) == 1.0


def test_a_strict_interval_without_the_truth_fails_even_where_it_is_called_slower():
    assert (
        judging.delayed(
            "x", 0.05, around(1.2, 0.01), around(1.2, 0.02), around(1, 0.01), False
        ).verdict
        == FAILED
    )


@pytest.mark.parametrize(
    ("half", "processes", "verdict"),
    [(0.02, 16, PASSED), (0.04, 16, INCONCLUSIVE), (0.02, 9, INCONCLUSIVE)],
)
def test_a_passed_a_a_takes_a_narrow_interval_from_processes_enough(half, processes, verdict):
    assert (
        judging.same(
            "A/A", Interval(1.0, math.exp(-half), math.exp(half), 0.999, processes)
        ).verdict
        == verdict
    )
    assert (
        judging.same(
            "A/A", Interval(1.2, 1.2 * math.exp(-half), 1.2 * math.exp(half), 0.999, processes)
        ).verdict
        == FAILED
    )


@pytest.mark.parametrize(
    ("read", "verdict"),
    [(0.100219, PASSED), (0.100221, FAILED), (0.099781, PASSED), (0.099779, FAILED)],
)
def test_a_spin_of_100_ms_may_be_off_by_220_microseconds(read, verdict):
    assert judging.spin(0.1, [(0.1, read)] * 3 + [(0.1, 9.0)]).verdict == verdict


def test_every_case_of_a_plan_has_a_key_of_its_own():
    for plan in (plans.spins(), plans.delays()):
        keys = [case.key for case in plan.groups[0].cases]
        assert len(set(keys)) == len(keys) == len(plan.groups[0].rows)
    assert plans.delays().protocol.rounds == plans.ROUNDS
