"""Pairs of which one case fails: timing of the pair ends, its earlier results are stored, and the
rows after it get their ratios.
"""

import random

import pytest
from pairs import ALL_FINE, MODELS, SECONDS, Bench, by_row, plan, rounds_by_worker, statuses

from swbench.case import BASELINE, CONTROL
from swbench.report.run_summary import RunSummary
from swbench.result import CRASHED, OK
from swbench.run import events


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def test_baseline_that_crashes_in_a_pair_is_reported_and_keeps_its_results(bench):
    crashed_calls = []

    def crashes(case):
        fatal = bench.pairing and case.role == BASELINE and len(bench.jobs) == 4
        crashed_calls.append(fatal)
        return fatal

    stored = bench(plan(replicates=1), 3, crashes=crashes)
    assert any(crashed_calls)
    cells = by_row(stored)
    assert cells["BN"].status == CRASHED
    assert cells["BN"].also
    assert [cells[model].status for model in MODELS] == [OK] * 3, "its own death is nobody else's"


def test_baseline_that_crashed_in_one_pair_is_measured_again_for_every_row(bench):
    stored = bench(
        plan(replicates=1),
        3,
        crashes=lambda case: bench.pairing and case.role == BASELINE and len(bench.jobs) == 4,
    )
    assert by_row(stored)["BN"].status == CRASHED
    cells = {cell.label: cell for cell in RunSummary(stored).cells}
    for model in MODELS:
        assert cells[model].times["forward_backward_s"].ratio.estimate == pytest.approx(
            SECONDS[model]
        )
        assert cells[model].times["forward_backward_s"].absolute.iterations == 6
    assert [
        event.row for event in bench.received_events if isinstance(event, events.CellFailed)
    ] == ["BN"]


def test_baseline_that_crashes_in_every_pair_is_tried_twice_a_replicate(bench):
    stored = bench(plan(), 3, crashes=lambda case: bench.pairing and case.role == BASELINE)
    for replicate in range(2):
        assert statuses(stored, replicate) == {**ALL_FINE, "BN": CRASHED}
        pairs = [
            models
            for job, models in zip(bench.jobs, bench.models(), strict=True)
            if job.replicate == replicate and len(models) == 3
        ]
        assert sum(BASELINE in models for models in pairs) == 2
    assert (MODELS[-1],) in bench.models(), "it has no ratio, and its worker to itself"


def test_on_a_cpu_a_pair_with_one_case_out_of_memory_is_not_timed(bench):
    """Whichever is built last has none; beside a control that had none the others go on."""
    taken = []
    for seed in range(6):
        stored = bench(plan("cpu", replicates=1, seed=seed), 2)
        assert statuses(stored) == ALL_FINE
        pairs = rounds_by_worker(bench)[1:]
        taken += pairs
        assert len({round_.attempt for round_ in stored.rounds} - {bench.jobs[0].attempt}) == sum(
            map(bool, pairs)
        ), "all that was timed belongs to a result"
    assert set(taken) == {0, 6}


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_failed_case_of_a_pair_ends_its_rounds_and_keeps_its_record(bench, device):
    stored = bench(
        plan(device, replicates=1),
        3,
        raises=lambda case, calls: bench.pairing and case.model == "a" and calls == 3,
    )
    cells = by_row(stored)
    assert {row: result.status for row, result in cells.items()} == {**ALL_FINE, "a": CRASHED}
    assert len(cells["a"].samples("forward_s")) == 2
    assert (
        dict(zip(bench.models(), rounds_by_worker(bench), strict=True))[BASELINE, CONTROL, "a"] == 3
    )
    assert {len(cells[row].samples("forward_s")) for row in ("b", "c")} == {6}
    assert {len(cells[row].samples("forward_s")) for row in ("BN", "BN (control)")} == {12}, (
        "those of b and c"
    )


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_failed_baseline_of_a_pair_keeps_the_measured_rounds_and_ratio(bench, device):
    stored = bench(
        plan(device, replicates=1),
        3,
        raises=lambda case, calls: (
            bench.pairing and case.role == BASELINE and calls == 3 and len(bench.jobs) == 4
        ),
    )
    cells = {cell.label: cell for cell in RunSummary(stored).cells}
    assert cells["BN"].status == CRASHED
    cut, *others = sorted(
        MODELS, key=lambda model: cells[model].times["forward_backward_s"].absolute.iterations
    )
    for model, rounds in ((cut, {2, 3}), *((other, {6}) for other in others)):
        timing = cells[model].times["forward_backward_s"]
        assert cells[model].status == OK
        assert timing.absolute.iterations in rounds
        assert timing.ratio.estimate == pytest.approx(SECONDS[model])


def test_baseline_that_fails_before_a_complete_round_is_replaced_by_a_fresh_one(bench):
    stored = bench(
        plan(replicates=1),
        3,
        raises=lambda case, calls: bench.pairing and case.role == BASELINE and len(bench.jobs) == 4,
    )
    cells = {cell.label: cell for cell in RunSummary(stored).cells}
    assert {cells[model].times["forward_backward_s"].absolute.iterations for model in MODELS} == {6}
    assert all(cells[model].times["forward_backward_s"].ratio for model in MODELS)


@pytest.mark.parametrize("seed", range(60))
def test_every_row_gets_a_status_and_a_ratio_where_it_and_the_baseline_succeed(bench, seed):
    rng = random.Random(seed)
    device, capacity_bytes = rng.choice(("cpu", "cuda")), rng.choice((2, 3, 3, 4, 5))
    needs = {model: rng.choice((1, 1, 1, 2, 4)) for model in ("good", *MODELS)}
    crash_rate, error_rate = rng.choice((0, 0.002, 0.02)), rng.choice((0, 0.01, 0.1))
    stored = bench(
        plan(device, seed=seed),
        capacity_bytes,
        needs=needs,
        crashes=lambda case: rng.random() < crash_rate,
        raises=lambda case, calls: rng.random() < error_rate,
    )
    assert len(stored.results) == 2 * len(ALL_FINE)
    assert len(bench.jobs) < 2 * 12
    for replicate in range(2):
        cells = by_row(stored, replicate)
        for model in MODELS:
            if cells[model].status == cells["BN"].status == OK:
                assert any(
                    {cells["BN"].case, cells[model].case} <= round_.samples.keys()
                    for round_ in stored.rounds
                    if round_.replicate == replicate
                )
