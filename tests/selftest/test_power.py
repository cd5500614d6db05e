"""The predicted power equals that of runs: against the t-test's own power where the noise is
normal, and against added delays.
"""

import math
import random
from dataclasses import replace

import numpy as np
import pytest

from swbench.selftest import FAILED, INCONCLUSIVE, PASSED, plans, power
from tests.support.delays import delayed_rounds

DEVIATION = 0.01


@pytest.fixture(autouse=True)
def few_lines(monkeypatch):
    monkeypatch.setattr(power, "PROCESSES", (4, 8))


def normal_processes(count=400):
    """Three equal networks, one round a process, each normal on the log scale."""
    rng = np.random.default_rng(0)
    return [[tuple(row)] for row in np.exp(rng.normal(0, DEVIATION, (count, 3))).tolist()]


def by_numpy(replicates, delay, runs=20_000):
    """The share of runs called slower, from the definitions, on noise of its own."""
    from scipy import stats

    rng = np.random.default_rng(1)
    baseline, variant, control = rng.normal(0, DEVIATION, (3, runs, replicates))
    values = variant + math.log1p(delay) - (baseline + control) / 2
    factor = stats.t.ppf(0.975, replicates - 1) / math.sqrt(replicates)
    half, floor = (factor * sample.std(axis=1, ddof=1) for sample in (values, control - baseline))
    return (values.mean(axis=1) > np.maximum(half, floor)).mean()


@pytest.mark.parametrize("replicates", [4, 8])
def test_the_rate_agrees_with_a_computation_by_definition(replicates):
    estimate = power.power(normal_processes(), replicates)
    for delay in (0.0, 0.01, 0.03):
        assert estimate.rate(delay) == pytest.approx(by_numpy(replicates, delay), abs=0.06)
    assert by_numpy(replicates, estimate.smallest) == pytest.approx(0.9, abs=0.05)
    assert estimate.false_positive_rate <= 0.05
    assert (
        power.power(normal_processes(), replicates).detection_thresholds
        == estimate.detection_thresholds
    ), "the same each time"


def test_more_processes_detect_smaller_differences():
    smallest = [power.power(normal_processes(), count).smallest for count in (4, 8, 16)]
    assert smallest == sorted(smallest, reverse=True)


def measured(delay=lambda share: share, bias=1.0, replicates=16):
    """The rounds of the self-test's delays on a machine with noise only within rounds."""
    plan, rng = plans.delays(), random.Random(3)

    def factor(share, replicate):
        wrong = bias ** rng.choice((-1, 1)) if replicate % 2 else 1.0
        return (1 + delay(share)) * math.exp(rng.gauss(0, 0.03)) * wrong

    return plan, delayed_rounds(plan, replicates, factor, rounds=13)


def test_the_lines_show_time_smallest_difference_and_false_positives():
    outcomes = {outcome.name: outcome for outcome in power.judge_power(*measured())}
    assert {outcome.verdict for outcome in outcomes.values()} == {PASSED}
    first = outcomes["power, 4 processes, 12 s"].result
    assert first.count("slower in 9 of 10 runs, and is wrong in") == 2
    assert outcomes["power, BN + 2% F"].result.startswith("called slower in")


def test_a_delay_that_is_detected_less_than_predicted_is_inconclusive():
    outcomes = {
        outcome.name: outcome
        for outcome in power.judge_power(*measured(delay=lambda share: share / 4))
    }
    assert outcomes["power, BN + 2% F"].verdict == INCONCLUSIVE
    assert outcomes["power, BN + 2% F"].remedy


def test_an_instrument_with_false_positives_fails(monkeypatch):
    narrow = lambda *args, **more: replace(  # noqa: E731
        interval := log_ratio(*args, **more),
        low=interval.estimate * 0.999,
        high=interval.estimate * 1.001,
    )
    log_ratio = power.log_ratio
    monkeypatch.setattr(power, "log_ratio", narrow)
    lines = list(power.judge_power(*measured()))
    assert lines[0].verdict == FAILED


def test_too_few_processes_are_inconclusive():
    (line,) = power.judge_power(*measured(replicates=3))
    assert (line.verdict, line.result) == (INCONCLUSIVE, "3 processes")
