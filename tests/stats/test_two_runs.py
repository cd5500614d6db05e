"""Welch's test and Holm's correction against scipy and closed forms, and the gate's verdicts at
their limits.
"""

import math
import random

import pytest
from scipy import stats

from swbench.stats.intervals import Interval
from swbench.stats.two_runs import SAME, UNCLEAR, Difference, gate_verdict, holm
from swbench.stats.verdict import FASTER, NO_DIFFERENCE, SLOWER, TOO_FEW, verdict

A, B = [0.01, 0.03, 0.02, 0.05], [0.11, 0.09, 0.16]


def test_interval_and_p_value_are_welchs():
    welch_test = stats.ttest_ind(B, A, equal_var=False)
    low, high = welch_test.confidence_interval(0.95)
    difference = Difference(A, B)
    assert difference.p_value == pytest.approx(welch_test.pvalue, rel=1e-9)
    got = difference.interval(0.95)
    assert (math.log(got.low), math.log(got.high)) == pytest.approx((low, high))
    assert Difference(B, A).p_value == pytest.approx(welch_test.pvalue, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.03, 0.2])
@pytest.mark.parametrize("confidence", [0.95, 0.9875])
def test_the_p_value_is_below_alpha_where_the_interval_excludes_1(shift, confidence):
    rng = random.Random(5)
    for _ in range(50):
        difference = Difference(
            [rng.gauss(0, 0.03) for _ in range(4)], [rng.gauss(shift, 0.02) for _ in range(5)]
        )
        assert (difference.p_value < 1 - confidence) is not difference.interval(confidence).holds(
            1.0
        )


def test_replicates_that_agree_exactly_leave_no_doubt():
    assert Difference([0.1, 0.1], [0.1, 0.1]).p_value == 1.0
    assert Difference([0.1, 0.1], [0.2, 0.2]).p_value == 0.0
    assert Difference([0.1, 0.1], [0.1, 0.1]).interval(0.95).low == 1.0


@pytest.mark.parametrize("values", [[0.1], [0.1, math.nan], [0.1, math.inf]])
def test_there_is_no_p_value_of_one_replicate_or_of_values_that_are_not_finite(values):
    assert Difference(values, B).p_value is None
    assert Difference(B, values).p_value is None


def test_holms_p_values_in_a_worked_example():
    # 4 · 0.01, then 3 · 0.02, 2 · 0.03 (not below the one before), 1 · 0.2
    assert holm([0.03, 0.01, 0.2, 0.02]) == pytest.approx([0.06, 0.04, 0.2, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_holm_rejects_more_than_bonferroni_and_no_more_than_it_may():
    assert max(holm([0.012, 0.02, 0.04])) < 0.05 < 3 * 0.02
    rng, wrong = random.Random(11), 0
    for _ in range(2000):
        wrong += min(holm([rng.random() for _ in range(20)])) < 0.05
    assert 0.035 < wrong / 2000 < 0.065


def interval(low, high, estimate=None, confidence=0.95):
    return Interval(
        math.sqrt(low * high) if estimate is None else estimate, low, high, confidence, 5
    )


NARROW = Interval(1.0, 0.999, 1.001, 0.95, 5)


@pytest.mark.parametrize(
    ("comparison", "adjusted", "threshold", "word"),
    [
        (interval(0.96, 1.04), 0.9, 0.05, SAME),
        (interval(1 / 1.05, 1.05), 0.9, 0.05, SAME),
        (interval(0.999 / 1.05, 1.05), 0.9, 0.05, UNCLEAR),
        (interval(1 / 1.05, 1.0501), 0.9, 0.05, UNCLEAR),
        # 0.95 is farther from 1 than 1.05 is, as 1 / 1.05 = 0.952
        (interval(0.95, 1.04), 0.9, 0.05, UNCLEAR),
        (interval(1.01, 1.04), 1e-6, 0.05, SAME),
        (interval(1.01, 1.09, 1.049), 1e-6, 0.05, UNCLEAR),
        (interval(1.01, 1.09, 1.051), 1e-6, 0.05, SLOWER),
        (interval(1.06, 1.09), 1e-6, 0.05, SLOWER),
        (interval(1.06, 1.09), 0.049, 0.05, SLOWER),
        (interval(1.06, 1.09), 0.051, 0.05, UNCLEAR),
        (interval(1.06, 1.09, confidence=0.9875), 0.02, 0.05, UNCLEAR),
        (interval(0.91, 0.94), 1e-6, 0.05, FASTER),
        (interval(0.91, 0.94), 0.051, 0.05, UNCLEAR),
        (interval(0.91, 0.99, 1 / 1.051), 1e-6, 0.05, FASTER),
        (interval(0.91, 0.99, 1 / 1.049), 1e-6, 0.05, UNCLEAR),
        (interval(1.001, 1.003), 1e-6, 0.0, UNCLEAR),
        (interval(1.002, 1.004), 1e-6, 0.0, SLOWER),
        (interval(0.99, 1.01), 0.9, 0.0, UNCLEAR),
        (interval(1.0, 1.0), 1.0, 0.0, SAME),
        (interval(1.06, 1.09), None, 0.05, UNCLEAR),
        (Interval(1.2, None, None, 0.95, 1), None, 0.05, UNCLEAR),
        (Interval(math.nan, math.nan, math.nan, 0.95, 5), None, 0.05, UNCLEAR),
        (Interval(math.nan, math.nan, math.nan, 0.95, 5), 1e-6, 0.05, UNCLEAR),
    ],
)
def test_a_gates_word_at_its_edges(comparison, adjusted, threshold, word):
    floor = interval(0.998, 1.002)  # so 1.002 and below are noise
    assert gate_verdict(comparison, verdict(comparison, floor), adjusted, threshold) == word


def test_a_gate_calls_nothing_different_that_the_row_by_itself_does_not():
    for row_verdict in (NO_DIFFERENCE, TOO_FEW, ""):
        assert gate_verdict(interval(1.06, 1.09), row_verdict, 1e-6, 0.05) == UNCLEAR
