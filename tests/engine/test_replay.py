"""The protocol on simulated machines whose truth is known, and the analyses that fail there."""

import random

import pytest

from swbench.engine.replay import (
    Experiment,
    FakeClock,
    Machine,
    of_one_process,
    of_pooled_rounds,
    replay,
    replay_stopping,
)
from swbench.engine.replay import (
    shuffled as order,
)
from swbench.report.statistics import Stopping

STILL = Machine(between=0, between_common=0, noise=0, drift=0, step=1, spike_rate=0, slots=(0.0,))


def fixed(cells, seed, replicate, index):
    return cells


@pytest.mark.parametrize("ratio", [1.0, 1.05])
def test_a_fixed_number_of_replicates_covers_the_truth_without_bias(ratio):
    found = replay(Experiment(ratio=ratio), order, runs=1000)
    assert abs(found.bias) <= 0.003
    assert 0.93 <= found.covered <= 0.97


def test_optional_stopping_still_covers():
    found = replay_stopping(Experiment(), order, Stopping(0.03), runs=300)
    assert abs(found.bias) <= 0.003
    assert found.covered >= 0.93
    assert 8 < found.replicates < 32  # so that looks of several sizes were judged


@pytest.mark.parametrize("analysis", [of_one_process, of_pooled_rounds])
def test_taking_rounds_for_replicates_claims_too_much(analysis):
    assert replay(Experiment(), order, runs=300, analysis=analysis).covered < 0.9


def test_rounds_in_a_fixed_order_are_biased_by_the_position_in_the_round():
    assert abs(replay(Experiment(), fixed, runs=100).bias) > 0.02


def test_stopping_without_splitting_the_error_probability_would_cover_less():
    naive, split = (replay_stopping(Experiment(), order, Stopping(0.03, alpha=alpha), runs=300).covered for alpha in (0.2, 0.05))
    assert naive < split


def test_a_still_machine_gives_the_ratio_exactly():
    found = replay(Experiment(ratio=1.2, machine=STILL), order, runs=2)
    assert found.bias == pytest.approx(0.0, abs=1e-9)
    assert found.half_width == pytest.approx(0.0, abs=1e-9)


def test_the_same_seed_gives_the_same_rounds():
    assert Experiment().replicate(3, 1, order) == Experiment().replicate(3, 1, order)
    assert Experiment().replicate(3, 1, order) != Experiment().replicate(4, 1, order)


def test_a_step_in_the_middle_of_a_sample_slows_only_the_rest_of_it():
    machine = Machine(drift=0, step=2.0, step_every_s=1.0)
    clock = FakeClock(machine, random.Random(0))
    clock._stepped, clock._change = False, 0.25
    clock._rng = random.Random(1)
    clock._rng.expovariate = lambda rate: 100.0
    assert clock.work(1.0) == pytest.approx(0.25 + 2 * 0.75)
    assert clock.now == pytest.approx(1.75)
