"""Carry-over in generated rounds is estimated, and is not found where there is none."""

import math
import random

import numpy as np
import pytest

from swbench.result import Round
from swbench.selftest.simulation import BASELINE, CELLS, CONTROL, VARIANT, Experiment
from swbench.stats.carry_over import CarryOver, carry_overs, corrected
from swbench.stats.intervals import log_ratio
from swbench.stats.samples import pairs
from swbench.stats.two_runs import holm

METRIC = "forward_s"


def made(seed, *, cases=5, workers=5, rounds=20, costs=None, noise=0.05, spikes=0.05):
    """Rounds in random orders, with effects of the level, the process, noise, spikes, a slow first
    position and the carry-over of the case before.
    """
    rng, names = np.random.default_rng(seed), [f"case {number}" for number in range(cases)]
    workers_ = []
    for worker in range(workers):
        own, taken = rng.normal(0, 0.02, cases), []
        for index in range(rounds):
            level, before, samples = rng.normal(0, 0.1), None, {}
            for position, case in enumerate(rng.permutation(cases)):
                log = own[case] + level + rng.normal(0, noise) + (0.03 if position == 0 else 0.0)
                log += (costs or {}).get(before, 0.0)
                log += rng.exponential(0.5) if rng.random() < spikes else 0.0
                samples[names[case]] = {METRIC: math.exp(log)}
                before = case
            taken.append(
                Round(
                    group="g",
                    replicate=worker,
                    attempt=str(worker),
                    index=index,
                    order=tuple(samples),
                    samples=samples,
                )
            )
        workers_.append(taken)
    return workers_


def estimates(seeds, **how):
    """The estimated carry-over of case 2 in each of several runs."""
    return [
        next(
            cost
            for cost in carry_overs(made(seed, **how), "case 0", METRIC)
            if cost.case == "case 2"
        )
        for seed in seeds
    ]


@pytest.mark.parametrize("cases", [3, 5])
@pytest.mark.parametrize("cost", [0.05, 0.5, -0.1])
def test_an_added_carry_over_is_estimated_at_its_size(cases, cost):
    means = [estimate.mean for estimate in estimates(range(20), cases=cases, costs={2: cost})]
    error = np.std(means, ddof=1) / math.sqrt(len(means))
    assert np.mean(means) == pytest.approx(cost, abs=3 * error)
    assert error < 0.005


def test_the_baselines_carry_over_has_the_opposite_sign_and_a_common_one_cancels():
    costs = carry_overs(made(1, costs={0: 0.2}), "case 0", METRIC)
    assert [estimate.mean for estimate in costs] == pytest.approx([-0.2] * 4, abs=0.05)
    costs = carry_overs(made(1, costs=dict.fromkeys(range(5), 0.2)), "case 0", METRIC)
    assert [estimate.mean for estimate in costs] == pytest.approx([0.0] * 4, abs=0.05)


def test_of_runs_without_carry_over_no_more_than_a_twentieth_show_one():
    """All cases of a run are tested together, by Holm; 120 runs at 5 % are 6, and three standard
    deviations more are 13.
    """
    wrong = sum(
        min(holm([cost.p_value for cost in carry_overs(made(seed, cases=4), "case 0", METRIC)]))
        < 0.05
        for seed in range(120)
    )
    assert 1 <= wrong <= 13


def test_a_machine_that_drifts_steps_and_slows_the_first_place_shows_none():
    wrong = 0
    for seed in range(60):
        workers = [Experiment().replicate(seed, worker) for worker in range(5)]
        costs = carry_overs(workers, BASELINE, METRIC)
        assert {estimate.case for estimate in costs} == {CONTROL, VARIANT}
        wrong += min(holm([estimate.p_value for estimate in costs])) < 0.05
    assert wrong <= 8, "60 runs at 5 % are 3, and three standard deviations more"
    assert len(CELLS) == 3


def test_a_carry_over_moves_the_ratio_and_the_correction_moves_it_back():
    """A row never follows itself, so in rounds of five its ratio is a fifth of the cost too low."""
    plain, right = [], []
    for seed in range(40):
        workers = made(seed, costs={2: 0.05})
        (cost,) = (
            cost.mean for cost in carry_overs(workers, "case 0", METRIC) if cost.case == "case 2"
        )
        rounds = [round_ for worker in workers for round_ in worker]
        better = corrected(rounds, METRIC, {"case 2": cost})
        plain.append(log_ratio(pairs(rounds, "case 0", "case 2", METRIC)).effect)
        right.append(log_ratio(pairs(better, "case 0", "case 2", METRIC)).effect)
    assert np.mean(np.subtract(plain, right)) == pytest.approx(-0.05 / 5, abs=0.002)
    assert abs(np.mean(right)) < 0.008


def test_a_correction_touches_the_successors_alone():
    round_ = made(3, cases=3, workers=1, rounds=1)[0][0]
    first, second, third = round_.order
    (better,) = corrected([round_], METRIC, {second: 0.1})
    assert better.samples[first] == round_.samples[first]
    assert better.samples[second] == round_.samples[second]
    assert better.samples[third][METRIC] == pytest.approx(
        round_.samples[third][METRIC] * math.exp(-0.1)
    )
    assert corrected([round_], "another", {second: 0.1}) == [round_]


@pytest.mark.parametrize(
    "how", [{"cases": 2}, {"rounds": 5}, {"workers": 1}], ids=["two cases", "few rounds", "one"]
)
def test_orders_that_do_not_identify_a_cost_give_none(how):
    assert carry_overs(made(1, **how), "case 0", METRIC) == ()


def test_orders_that_never_change_give_no_cost():
    workers = [
        [Round(**{**vars(round_), "order": tuple(sorted(round_.order))}) for round_ in worker]
        for worker in made(1, cases=4)
    ]
    assert carry_overs(workers, "case 0", METRIC) == ()


def test_rounds_in_which_a_case_failed_are_left_out():
    workers = made(4, costs={2: 0.3})
    spoilt = [
        [
            Round(
                **{
                    **vars(round_),
                    "samples": {key: round_.samples[key] for key in round_.order[1:]},
                }
            )
            if round_.index % 3 == 0
            else round_
            for round_ in worker
        ]
        for worker in workers
    ]
    rest = [[round_ for round_ in worker if round_.index % 3] for worker in workers]
    costs = carry_overs(spoilt, "case 0", METRIC)
    assert costs == carry_overs(rest, "case 0", METRIC)
    assert costs
    assert carry_overs(workers, "another", METRIC) == ()
    assert carry_overs(workers, "case 0", "another") == ()


def test_the_p_value_is_a_t_tests():
    from scipy import stats

    rng = random.Random(2)
    values = tuple(rng.gauss(0.02, 0.03) for _ in range(5))
    effect = CarryOver("a", METRIC, values)
    assert effect.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert CarryOver("a", METRIC, (0.1, 0.1)).p_value == 0.0
    assert CarryOver("a", METRIC, (0.0, 0.0)).p_value == 1.0
