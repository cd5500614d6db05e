"""The protocol on simulated machines with a known true ratio, and analyses that fail there."""

import functools
import random
from typing import ClassVar

import pytest

from swbench.case import Case
from swbench.plan import Protocol
from swbench.result import FORWARD, Round
from swbench.selftest.simulation import (
    BASELINE,
    CELLS,
    Experiment,
    FakeClock,
    Machine,
    analyse_rounds_as_replicates,
    simulate,
    simulate_stopping,
)
from swbench.stats.intervals import log_ratio
from swbench.stats.samples import pairs
from swbench.stats.stopping import Stopping
from swbench.worker.job import Job
from swbench.worker.session import Session

STILL = Machine(between=0, between_common=0, noise=0, drift=0, step=1, spike_rate=0, slots=(0.0,))


def fixed(seed):
    return lambda cells: cells


@functools.cache
def stopped(alpha: float):
    """300 runs with optional stopping, which two tests share."""
    return simulate_stopping(Experiment(), Stopping(0.03, alpha=alpha), runs=300)


@pytest.mark.parametrize("ratio", [pytest.param(1.0, marks=pytest.mark.slow), 1.05])
def test_a_fixed_number_of_replicates_covers_the_truth_without_bias(ratio):
    coverage = simulate(Experiment(ratio=ratio), runs=1000)
    assert abs(coverage.bias) <= 0.003
    assert 0.93 <= coverage.covered <= 0.97


def test_optional_stopping_still_covers():
    coverage = stopped(0.05)
    assert abs(coverage.bias) <= 0.003
    assert coverage.covered >= 0.93
    assert 8 < coverage.replicates < 32  # so that looks of several sizes were judged


def of_pooled_rounds(rounds, cell):
    """A wrong analysis: the rounds of all processes as independent replicates."""
    replicates = pairs(rounds, BASELINE, cell, FORWARD)
    return log_ratio([[pair] for replicate in replicates for pair in replicate])


@pytest.mark.parametrize("analysis", [analyse_rounds_as_replicates, of_pooled_rounds])
def test_rounds_as_replicates_cover_too_little(analysis):
    assert simulate(Experiment(), runs=300, analysis=analysis).covered < 0.9


def test_rounds_in_a_fixed_order_are_biased_by_the_position_in_the_round():
    assert abs(simulate(Experiment(), runs=100, orders=fixed).bias) > 0.02


def test_stopping_without_splitting_the_error_probability_would_cover_less():
    naive, split = (stopped(alpha).covered for alpha in (0.2, 0.05))
    assert naive < split


def test_a_machine_without_noise_gives_the_ratio_exactly():
    coverage = simulate(Experiment(ratio=1.2, machine=STILL), runs=2)
    assert coverage.bias == pytest.approx(0.0, abs=1e-9)
    assert coverage.half_width == pytest.approx(0.0, abs=1e-9)


def test_the_same_seed_gives_the_same_rounds():
    assert Experiment().replicate(3, 1) == Experiment().replicate(3, 1)
    assert Experiment().replicate(3, 1) != Experiment().replicate(4, 1)


def test_a_step_in_the_middle_of_a_sample_slows_only_the_rest_of_it():
    machine = Machine(drift=0, step=2.0, step_every_s=1.0)
    clock = FakeClock(machine, random.Random(0))
    clock._stepped, clock._change = False, 0.25
    clock._rng = random.Random(1)
    clock._rng.expovariate = lambda rate: 100.0
    assert clock.work(1.0) == pytest.approx(0.25 + 2 * 0.75)
    assert clock.now == pytest.approx(1.75)


def test_the_simulated_rounds_are_the_worker_s_own():
    """The same cells through the session that a worker runs, on a fake clock, come out in the same
    order with the same times.
    """
    experiment, seed = Experiment(rounds=4), 7
    expected, messages = experiment.replicate(seed, 2), []
    durations = iter(
        [round_.samples[cell]["forward_s"] for round_ in expected for cell in round_.order]
    )

    class Cell:
        chosen: ClassVar = {}

        def __init__(self, case):
            self.calls = 0

        def call(self):
            self.calls += 1
            # the first call warms up
            return {"forward_s": next(durations) if self.calls > 1 else 1.0}

        def finish(self):
            return []

    cases = tuple(Case(model=cell, role=cell) for cell in CELLS)
    protocol = Protocol(
        iterations=4, replicates=1, warmup_calls=1, warmup_s=0.0, warmup_cap_s=0.0, seed=seed
    )
    job = Job(
        group="replay",
        cases=cases,
        replicate=2,
        attempt="1",
        protocol=protocol,
        workloads={},
        log="",
    )
    Session(job, Cell, messages.append, read=dict).run()
    rounds = [message for message in messages if isinstance(message, Round)]
    cells = {case.key: case.model for case in cases}
    assert [tuple(cells[case] for case in round_.order) for round_ in rounds] == [
        round_.order for round_ in expected
    ]
    assert [
        {cells[case]: samples for case, samples in round_.samples.items()} for round_ in rounds
    ] == [round_.samples for round_ in expected]
