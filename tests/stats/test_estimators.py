"""The estimators of a ratio: exact in simple cases, without bias and with correct coverage on
generated and on measured noise; and the tests detect a biased one.
"""

import functools
import math
import random
import statistics
from pathlib import Path

import numpy as np
import pytest

from swbench import store
from swbench.plan import FASTER_HALF, MEDIAN
from swbench.result import FORWARD, FORWARD_BACKWARD, Round
from swbench.stats import estimators
from swbench.stats.estimators import replicate_value
from swbench.stats.intervals import log_ratio
from swbench.stats.samples import by_worker, ratio_pairs

ROOT = Path(__file__).parents[2]
RUNS = ("20261123T041350Z_imagenet_amd-epyc", "20261123T010854Z_imagenet_amd-epyc")
"""The committed runs with most processes."""


def drawn(seed, rounds=10, columns=3):
    """Rounds of equal networks, on a machine that slows one call in three."""
    rng = np.random.default_rng(seed)
    times = rng.lognormal(-3, 0.02, (rounds, columns)) * np.where(
        rng.random((rounds, columns)) < 1 / 3, rng.uniform(1, 1.4, (rounds, columns)), 1
    )
    return [tuple(row) for row in times.tolist()]


def numpy_half(times):
    logs = np.sort(np.log(times))
    return logs[: -(-len(logs) // 2)].mean()


@pytest.mark.parametrize("rounds", [1, 2, 7, 10])
def test_the_faster_half_is_that_of_each_network_alone(rounds):
    pairs = drawn(rounds, rounds)
    baseline, variant, control = np.array(pairs).T
    assert replicate_value(pairs, FASTER_HALF) == pytest.approx(
        numpy_half(variant) - (numpy_half(baseline) + numpy_half(control)) / 2, abs=1e-12
    )
    assert replicate_value([pair[:2] for pair in pairs], FASTER_HALF) == pytest.approx(
        numpy_half(variant) - numpy_half(baseline), abs=1e-12
    )


@pytest.mark.parametrize("estimator", [MEDIAN, FASTER_HALF])
def test_a_factor_is_estimated_to_the_last_digit(estimator):
    pairs = drawn(1)
    slower = [(pair[0], 1.07 * pair[1], *pair[2:]) for pair in pairs]
    assert replicate_value(slower, estimator) - replicate_value(pairs, estimator) == (
        pytest.approx(math.log(1.07), abs=1e-12)
    )


def test_disturbances_of_the_slower_half_do_not_move_the_faster_half():
    pairs = [(1.0, 1.0 + 0.01 * k, 1.0) for k in range(10)]
    stopped = [(b, v if v < 1.05 else 3.0, c) for b, v, c in pairs]
    assert replicate_value(stopped, FASTER_HALF) == replicate_value(pairs, FASTER_HALF)


@pytest.mark.parametrize("estimator", [MEDIAN, FASTER_HALF])
@pytest.mark.parametrize("pairs", [[], [(1.0, 0.0)], [(1.0, -1.0)], [(0.0, 1.0)]])
def test_nothing_to_estimate_from_is_refused(estimator, pairs):
    with pytest.raises(ValueError, match="at least one round, and times greater than zero"):
        replicate_value(pairs, estimator)


def rounds(*samples):
    return [
        Round(
            group="g",
            replicate=0,
            attempt="1",
            index=index,
            order=tuple(by_case),
            samples={case: {FORWARD: seconds} for case, seconds in by_case.items()},
        )
        for index, by_case in enumerate(samples)
    ]


def test_the_control_is_pooled_by_pooling_estimators_if_every_round_has_it():
    full = rounds({"bn": 1.0, "again": 2.0, "sw": 3.0}, {"bn": 4.0, "again": 5.0, "sw": 6.0})
    both = ("bn", "again")
    assert ratio_pairs([full], both, "sw", FORWARD, FASTER_HALF) == [[(1, 3, 2), (4, 6, 5)]]
    assert ratio_pairs([full], both, "sw", FORWARD, MEDIAN) == [[(1, 3), (4, 6)]]
    assert ratio_pairs([full], both, "again", FORWARD, FASTER_HALF) == [[(1, 2), (4, 5)]]
    assert ratio_pairs([full], ("bn",), "sw", FORWARD, FASTER_HALF) == [[(1, 3), (4, 6)]]
    torn = rounds({"bn": 1.0, "again": 2.0, "sw": 3.0}, {"bn": 4.0, "sw": 6.0}, {"sw": 7.0})
    assert ratio_pairs([torn, full], both, "sw", FORWARD, FASTER_HALF) == [
        [(1, 3), (4, 6)],
        [(1, 3, 2), (4, 6, 5)],
    ]


@functools.cache
def measured(metric):
    """The pairs in each process of every network in the committed runs, except the baseline."""
    pairs = {}
    for name in RUNS:
        run = store.load(ROOT / "results" / "reference" / name)
        (group,), workers = run.plan.groups, by_worker(run.rounds).values()
        for case, row in zip(group.cases, group.rows, strict=True):
            if case.key not in group.baselines:
                pairs[name, row] = ratio_pairs(
                    workers, group.baselines, case.key, metric, FASTER_HALF
                )
    return pairs


@pytest.mark.parametrize("metric", [FORWARD, FORWARD_BACKWARD])
def test_processes_scatter_as_the_run_estimate_assumes(metric):
    scatters = []
    for processes in measured(metric).values():
        values = [replicate_value(process, FASTER_HALF) for process in processes]
        within = statistics.fmean(
            statistics.variance(math.log(variant / base) for base, variant, _ in process)
            for process in processes
        )
        scatters.append(statistics.variance(values) / (within / 10))
    assert math.sqrt(statistics.fmean(scatters)) == pytest.approx(
        estimators.SCATTER[FASTER_HALF], rel=0.15
    )


def coverage(processes, runs=1000, replicates=8):
    """The share of simulated runs, of processes drawn with replacement, whose interval holds the
    mean over all processes.
    """
    truth = statistics.fmean(replicate_value(process, FASTER_HALF) for process in processes)
    draw = random.Random(0)
    return (
        sum(
            log_ratio(draw.choices(processes, k=replicates), estimator=FASTER_HALF).holds(
                math.exp(truth)
            )
            for _ in range(runs)
        )
        / runs
    )


@pytest.mark.parametrize("metric", [FORWARD, FORWARD_BACKWARD])
def test_intervals_hold_the_truth_on_measured_processes(metric):
    shares = [coverage(processes) for processes in measured(metric).values()]
    assert len(shares) >= 5
    assert 0.93 <= statistics.fmean(shares) <= 0.97


def equal_networks(metric):
    """Three networks that are alike in each process of the committed runs: baseline, control, and
    in each round one of these, by chance, as it was in the next.
    """
    choose = random.Random(0)
    for name in RUNS:
        run = store.load(ROOT / "results" / "reference" / name)
        for worker in by_worker(run.rounds).values():
            pairs = [
                tuple(round_.samples[key][metric] for key in run.plan.groups[0].baselines)
                for round_ in worker
            ]
            yield [
                (*pair, choose.choice(later))
                for pair, later in zip(pairs, pairs[1:] + pairs[:1], strict=True)
            ]


def simulated(processes, ratio, seed, replicates=8):
    """A run of `replicates` of the processes, each with its three networks in a random role."""
    draw, run = random.Random(seed), []
    for worker in draw.choices(processes, k=replicates):
        baseline, variant, control = draw.sample(range(3), 3)
        run.append(
            [(round_[baseline], ratio * round_[variant], round_[control]) for round_ in worker]
        )
    return run


def judged(processes, ratio, estimator=FASTER_HALF, runs=1000):
    """(bias of the log-ratio, share of intervals that hold the truth) over simulated runs."""
    intervals = [
        log_ratio(simulated(processes, ratio, seed), estimator=estimator) for seed in range(runs)
    ]
    bias = statistics.fmean(interval.effect for interval in intervals) - math.log(ratio)
    return bias, sum(interval.holds(ratio) for interval in intervals) / runs


@pytest.mark.parametrize("metric", [FORWARD, FORWARD_BACKWARD])
def test_there_is_no_bias_on_measured_rounds(metric):
    processes = list(equal_networks(metric))
    assert len(processes) == 60
    bias, covered = judged(processes, 1.01)
    assert abs(bias) <= 0.001
    assert 0.93 <= covered <= 0.97


def test_intervals_hold_the_truth_on_generated_noise():
    bias, covered = judged([drawn(seed, 13) for seed in range(4000)], 1.01)
    assert abs(bias) <= 0.001
    assert 0.93 <= covered <= 0.97


def pooled_as_one(pairs):
    """A biased estimator: baseline and control as one sample of twice the size, whose half is
    another share of the sample where the number of rounds is odd.
    """
    baseline, variant, control = zip(*pairs, strict=True)
    return estimators._mean_log_of_faster_half(variant) - estimators._mean_log_of_faster_half(
        (*baseline, *control)
    )


def unlike_shares(pairs):
    """A biased estimator: the faster half of the variant, the fastest quarter of the baseline."""
    baseline, variant, _ = zip(*pairs, strict=True)
    return estimators._mean_log_of_faster_half(variant) - estimators._mean_log_of_faster_half(
        sorted(baseline)[: len(baseline) // 2]
    )


def faster_of_both(pairs):
    """A biased estimator: the faster of baseline and control in each round."""
    return estimators.faster_half([(min(b, c), v) for b, v, c in pairs])


@pytest.mark.parametrize("wrong", [pooled_as_one, unlike_shares, faster_of_both])
def test_a_biased_estimator_is_detected(monkeypatch, wrong):
    monkeypatch.setitem(estimators.ESTIMATORS, "wrong", wrong)
    bias, _ = judged([drawn(seed, 13) for seed in range(4000)], 1.0, "wrong")
    assert abs(bias) > 0.001
