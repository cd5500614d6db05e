"""The variance study estimates the components of synthetic rounds."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from benchmarks import variance
from swbench.case import Case
from swbench.plan import Group, Plan, Protocol
from swbench.result import Round


def made(process, call, rounds=12, shared=0.0, processes=400, cases=3):
    rng = np.random.default_rng(1)
    components = []
    for _ in range(processes):
        own = rng.normal(0, process / np.sqrt(2), cases)
        common = rng.normal(0, shared, (rounds, 1))
        components.append(np.exp(own + common + rng.normal(0, call, (rounds, cases))))
    return components


def test_rounds_explain_all_variance_without_a_process_component():
    components = variance.parts(made(process=0.0, call=0.05), baseline=0)
    assert components.ratio == pytest.approx(0.05 * np.sqrt(2), rel=0.03)
    assert components.replicate == pytest.approx(components.floor, rel=0.1)


def test_process_component_is_estimated():
    components = variance.parts(made(process=0.03, call=0.02), baseline=0)
    assert components.process == pytest.approx(0.03, rel=0.1)


def test_component_shared_by_a_round_is_estimated_and_cancels():
    components = variance.parts(made(process=0.0, call=0.02, shared=0.06), baseline=0)
    assert components.shared == pytest.approx(0.9, abs=0.03)
    assert components.ratio == pytest.approx(0.02 * np.sqrt(2), rel=0.03)


def test_outliers_widen_only_the_standard_deviation():
    rounds = made(process=0.0, call=0.02, processes=50)
    for round_ in rounds:
        round_[3, 1] *= 2
    components = variance.parts(rounds, baseline=0)
    assert components.ratio > 3 * components.ratio_middle


def test_a_replayed_half_width_is_that_of_the_t_interval():
    rng = np.random.default_rng(2)
    processes = [
        [(1.0, float(np.exp(value)))] for value in rng.normal(0, 0.01, 400)
    ]  # one round each, so that an estimator is that round
    expected = stats.t.ppf(0.975, 4) * 0.01 * 0.94 / np.sqrt(5)  # 0.94: E(s) / σ of 5 values
    for estimator in ("median", "faster-half"):
        assert variance.half_width(processes, estimator, 5, 7) == pytest.approx(expected, rel=0.06)


@pytest.mark.parametrize(("scatter", "count"), [(0.0, 4), (0.3, 32)])
def test_a_simulated_run_stops_where_its_rounds_allow(scatter, count):
    cases = Case(model="m", role="baseline"), Case(model="m", norm="swa")
    plan = Plan(
        suite="s",
        title="S",
        kind="network",
        groups=(Group(name="g", cases=cases, rows=("BN", "SW")),),
        metrics=("time",),
        protocol=Protocol(estimator="faster-half"),
    )
    draw = random.Random(0)
    rounds = [
        Round(
            group="g",
            replicate=0,
            attempt="1",
            index=index,
            order=(),
            samples={case.key: {"forward_s": math.exp(scatter * draw.gauss())} for case in cases},
        )
        for index in range(20)
    ]
    simulated = variance.simulated([rounds, rounds[:5]], 13, draw)
    assert [len(replicate) for replicate in simulated] == 32 * [13]
    assert {item.replicate for replicate in simulated for item in replicate} == set(range(32))
    assert variance.replicates_taken(plan, simulated, 0.01) == count


def test_a_folder_that_is_no_run_is_one_line(tmp_path, capsys):
    assert variance.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("variance: ")
