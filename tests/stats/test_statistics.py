"""Intervals, verdicts and samples against closed forms and against scipy.stats and numpy, which the
code itself does not use.
"""

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from swbench.case import BASELINE, CONTROL, Case
from swbench.plan import Group
from swbench.result import Round
from swbench.stats.intervals import Interval, absolute, log_ratio
from swbench.stats.samples import noise_floor, pairs, seconds, undisturbed
from swbench.stats.verdict import (
    FASTER,
    NO_DIFFERENCE,
    NOT_RESOLVED,
    SLOWER,
    TOO_FEW,
    resolved,
    unstable,
    verdict,
)


def interval(low, high, replicates=5):
    return Interval(math.sqrt(low * high), low, high, 0.95, replicates)


def drawn(seed, replicates, rounds):
    rng = np.random.default_rng(seed)
    base = rng.lognormal(-3, 0.3, (replicates, rounds))
    return base, base * rng.lognormal(0.1, 0.05, (replicates, rounds)) * rng.lognormal(
        0, 0.03, (replicates, 1)
    )


@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.9875, 0.999])
@pytest.mark.parametrize(("replicates", "rounds"), [(2, 5), (5, 20), (7, 3), (32, 1)])
def test_log_ratio_is_the_t_interval_over_replicate_medians(replicates, rounds, confidence):
    base, variant = drawn(replicates, replicates, rounds)
    medians = np.median(np.log(variant / base), axis=1)
    low, high = stats.t.interval(
        confidence, replicates - 1, loc=medians.mean(), scale=stats.sem(medians)
    )
    got = log_ratio(
        [
            list(zip(b, v, strict=True))
            for b, v in zip(base.tolist(), variant.tolist(), strict=True)
        ],
        confidence,
    )
    assert (got.estimate, got.low, got.high) == pytest.approx(
        tuple(np.exp([medians.mean(), low, high])), rel=1e-9
    )
    assert got.half_width == pytest.approx((high - low) / 2, rel=1e-9)
    assert (got.replicates, got.confidence, got.known) == (replicates, confidence, True)


def test_a_closed_form_of_two_replicates():
    # medians 1 and 3: mean 2, s = sqrt 2, t(0.975, 1) = tan(0.475 pi)
    got = log_ratio([[(1.0, math.e)], [(1.0, math.exp(3))]])
    assert math.log(got.estimate) == pytest.approx(2)
    assert got.half_width == pytest.approx(math.tan(0.475 * math.pi))


def test_one_replicate_has_an_estimate_and_no_interval():
    got = log_ratio([[(1.0, 2.0), (1.0, 2.0), (1.0, 8.0)]])
    assert got == Interval(pytest.approx(2.0), None, None, 0.95, 1)
    assert got.half_width == math.inf
    assert not got.known
    assert got.holds(1.0)


def test_the_median_of_a_replicate_ignores_a_spike_and_drift_common_to_a_round():
    calm = [[(1.0, 1.1)] * 5, [(1.0, 1.1)] * 5]
    rough = [[(1.0, 1.1), (2.0, 2.2), (3.0, 3.3), (1.0, 50.0), (1.0, 1.1)], [(0.5, 0.55)] * 5]
    assert log_ratio(rough).estimate == pytest.approx(log_ratio(calm).estimate)


def test_replicates_that_failed_do_not_count():
    assert log_ratio([[(1.0, 2.0)], [], [(1.0, 2.0)]]).replicates == 2


@pytest.mark.parametrize("replicates", [[], [[]], [[(0.0, 1.0)]], [[(1.0, 0.0)]], [[(1.0, -1.0)]]])
def test_nothing_to_measure_is_an_error(replicates):
    with pytest.raises(ValueError, match="round"):
        log_ratio(replicates)


def test_absolute_times_match_numpy_and_scipy():
    base, _ = drawn(3, 6, 10)
    got = absolute(base.tolist())
    logs = np.log(base.mean(axis=1))
    low, high = base.mean() * np.exp(stats.t.interval(0.95, 5, loc=0.0, scale=stats.sem(logs)))
    assert (got.mean, got.median, got.std) == pytest.approx(
        (base.mean(), np.median(base), base.std(ddof=1))
    )
    assert (got.low, got.high) == pytest.approx((low, high))
    assert (got.replicates, got.iterations) == (6, 60)


def test_the_absolute_mean_is_over_all_iterations_even_where_replicates_differ_in_length():
    assert absolute([[1.0, 1.0, 1.0], [5.0]]).mean == pytest.approx(2.0)


def test_seconds_are_positive_however_wide_their_interval():
    got = absolute([[0.001], [0.002], [0.1]])
    assert 0 < got.low < got.mean < got.high
    assert (absolute([[0.0], [0.1]]).low, absolute([[0.0], [0.1]]).mean) == (None, 0.05)


def test_the_interval_of_seconds_is_the_plain_one_where_processes_hardly_differ():
    means = [1.0, 1.001, 1.002, 0.999]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(means), scale=stats.sem(means))
    got = absolute([[mean] for mean in means])
    assert (got.low, got.high) == pytest.approx((low, high), rel=1e-5)


def test_absolute_of_one_sample_and_of_none():
    got = absolute([[0.25]])
    assert (got.mean, got.std, got.low, got.high) == (0.25, 0.0, None, None)
    with pytest.raises(ValueError, match="no sample"):
        absolute([[], []])


QUIET = interval(0.99, 1.01)


@pytest.mark.parametrize(
    ("interval", "floor", "expected"),
    [
        (interval(1.03, 1.07), QUIET, SLOWER),
        (interval(0.90, 0.95), QUIET, FASTER),
        (interval(0.99, 1.07), QUIET, NO_DIFFERENCE),
        # excludes 1, but lies inside the noise floor
        (interval(1.004, 1.006), QUIET, NO_DIFFERENCE),
        (interval(0.994, 0.996), QUIET, NO_DIFFERENCE),
        # only the half-width of the floor counts
        (interval(1.03, 1.07), interval(1.5, 1.6), SLOWER),
        (interval(1.03, 1.07), interval(0.9, 1.1), NO_DIFFERENCE),
        (interval(1.004, 1.006), None, SLOWER),
        (Interval(1.5, None, None, 0.95, 1), QUIET, TOO_FEW),
        (interval(1.03, 1.07), Interval(1.0, None, None, 0.95, 1), TOO_FEW),
    ],
)
def test_verdicts(interval, floor, expected):
    assert verdict(interval, floor) == expected


def test_a_row_is_unstable_only_where_a_target_was_missed():
    assert unstable(interval(0.98, 1.02), 0.01)
    assert not unstable(interval(0.98, 1.02), 0.03)
    assert not unstable(interval(0.5, 2.0), None)
    assert unstable(Interval(1.0, None, None, 0.95, 1), 0.5)


BN, TWIN, SWA = (
    Case(model="m", role=BASELINE),
    Case(model="m", role=CONTROL),
    Case(model="m", norm="swa"),
)


def rounds(disturbance=lambda k, i: {}):
    return [
        Round(
            group="g",
            replicate=k,
            attempt="a",
            index=i,
            order=(),
            samples={
                BN.key: {"forward_s": 1.0},
                TWIN.key: {"forward_s": 1.0},
                SWA.key: {"forward_s": 1.0 + k + 0.01 * i, "forward_cpu_s": 9.0},
            },
            disturbance=disturbance(k, i),
        )
        for i in reversed(range(10))
        for k in (1, 0)
    ]


def test_pairs_and_seconds_come_in_the_order_of_replicate_and_round():
    got = pairs(rounds(), BN.key, SWA.key, "forward_s")
    assert [len(replicate) for replicate in got] == [10, 10]
    assert got[1][:2] == [(1.0, 2.0), (1.0, 2.01)]
    assert seconds(rounds(), SWA.key, "forward_s")[0][:2] == [1.0, 1.01]
    assert pairs(rounds(), BN.key, SWA.key, "forward_cpu_s") == [[], []]
    assert seconds(rounds(), "unknown", "forward_s") == [[], []]


def test_the_noise_floor_is_the_control_against_the_baseline():
    group = Group(name="g", cases=(BN, TWIN, SWA), rows=("BN", "BN again", "SW"))
    assert noise_floor(rounds(), group, "forward_s") == Interval(1.0, 1.0, 1.0, 0.95, 2)
    assert (
        noise_floor(rounds(), Group(name="g", cases=(BN, SWA), rows=("BN", "SW")), "forward_s")
        is None
    )
    assert noise_floor(rounds(), group, "forward_backward_s") is None


def test_undisturbed_drops_the_marked_rounds_and_at_most_a_fifth_of_a_replicate():
    stolen = {"wall_s": 1.0, "steal_s": 0.5}
    remaining = undisturbed(
        rounds(
            lambda k, i: stolen if (k, i) in {(0, 3), (1, 0), (1, 1), (1, 2)} else {"wall_s": 1.0}
        ),
        BN.key,
    )
    assert sorted((round_.replicate, round_.index) for round_ in remaining) == [
        (0, i) for i in range(10) if i != 3
    ] + [(1, i) for i in range(2, 10)]


def test_a_row_that_is_paired_loses_at_most_a_fifth_of_its_own_rounds():
    """Two pairs with a worker each, one of which was disturbed: only its own row loses rounds."""
    stolen, calm = {"wall_s": 1.0, "steal_s": 0.5}, {"wall_s": 1.0}
    other = dataclasses.replace(SWA, layers=7)
    taken = [
        Round(
            group="g",
            replicate=0,
            attempt=attempt,
            index=i,
            order=(),
            samples={key: {"forward_s": 1.0} for key in (BN.key, row.key)},
            disturbance=disturbance,
        )
        for attempt, row, disturbance in (("a", SWA, calm), ("b", other, stolen))
        for i in range(10)
    ]
    remaining = undisturbed(taken, BN.key)
    assert [len(pairs(remaining, BN.key, row.key, "forward_s")[0]) for row in (SWA, other)] == [
        10,
        8,
    ]


def test_the_noise_floor_of_pairs_is_of_one_process_a_replicate():
    """Each row's ratio comes from one process too; the median of two processes would show too
    little noise.
    """
    group = Group(name="g", cases=(BN, TWIN), rows=("BN", "BN again"))
    taken = [
        Round(
            group="g",
            replicate=k,
            attempt=attempt,
            index=i,
            order=(),
            samples={BN.key: {"forward_s": 1.0}, TWIN.key: {"forward_s": error}},
        )
        for k in range(3)
        for attempt, error in (("a", 1.02 if k else 0.98), ("b", 1 / 1.02 if k else 1 / 0.98))
        for i in range(2)
    ]
    first = [round_ for round_ in taken if round_.attempt == "a"]
    assert noise_floor(taken, group, "forward_s") == noise_floor(first, group, "forward_s")
    assert noise_floor(first, group, "forward_s").half_width > 0.02


@pytest.mark.parametrize(
    ("own", "low", "high", "published", "expected"),
    [
        (NO_DIFFERENCE, 0.90, 1.10, 1.08, NOT_RESOLVED),
        (NO_DIFFERENCE, 0.90, 1.10, 0.95, NOT_RESOLVED),
        (NO_DIFFERENCE, 0.99, 1.01, 1.08, NO_DIFFERENCE),
        (NO_DIFFERENCE, 1.02, 1.04, 1.03, NO_DIFFERENCE),  # below the noise floor, yet not 1
        (NO_DIFFERENCE, 0.99, 1.08, 1.08, NOT_RESOLVED),
        (SLOWER, 0.90, 1.10, 1.08, SLOWER),
        (TOO_FEW, 0.90, 1.10, 1.08, TOO_FEW),
    ],
)
def test_an_interval_that_holds_1_and_a_published_ratio_resolves_neither(
    own, low, high, published, expected
):
    assert resolved(own, low, high, published) == expected
