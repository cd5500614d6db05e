"""Cases that do not fit the memory together are measured with the baseline, one at a time."""

import dataclasses
from collections import Counter
from pathlib import Path

import pairs
import pytest
from pairs import ALL_FINE, MODELS, SECONDS, Bench, by_row, plan, statuses

from swbench import store
from swbench.case import BASELINE, CONTROL
from swbench.report.build import build_table
from swbench.report.long_samples import samples
from swbench.report.run_summary import RunSummary
from swbench.result import CRASHED, OK, OUT_OF_MEMORY
from swbench.run import Interrupted, events, run
from swbench.run.executor import SubprocessExecutor

HERE = str(Path(pairs.__file__).parent)


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("device", ["cuda", "cpu"])
@pytest.mark.parametrize("capacity_bytes", [2, 3, 4, 5])
def test_every_row_that_fits_beside_the_baseline_is_measured(bench, device, capacity_bytes, seed):
    """Whatever is built last is what runs out; `seed` draws that order."""
    stored = bench(plan(device, seed=seed), capacity_bytes)
    for replicate in range(2):
        assert statuses(stored, replicate) == ALL_FINE
    assert not [event for event in bench.received_events if isinstance(event, events.CellFailed)]
    cells = {cell.label: cell for cell in RunSummary(stored).cells}
    for model in MODELS:
        timing = cells[model].times["forward_backward_s"]
        assert timing.ratio.estimate == pytest.approx(SECONDS[model])
        assert timing.absolute.iterations == 6
        assert timing.verdict == "slower"
    assert (len(bench.jobs) == 2) == (capacity_bytes == 5), "one worker a replicate where all fit"
    assert any("paired" in result.chosen for result in stored.results) == (capacity_bytes < 5)


def test_real_workers_are_paired_and_a_baseline_is_read_out_in_one_of_them(tmp_path):
    made = plan("cpu", replicates=1, models=("fine", "finer", "finest"))
    writer = store.RunWriter.create(tmp_path, made, {"label": "box"}, "")
    run(
        made,
        writer,
        SubprocessExecutor(tmp_path / "logs", paths=[HERE]),
        workloads={"network": "pairs:Crowded"},
    )
    cells = by_row(store.load(writer.path))
    assert {cell.status for cell in cells.values()} == {OK}
    assert len(cells["BN"].attempts) > 1
    assert {row: len(result.samples("error")) for row, result in cells.items()} == dict.fromkeys(
        cells, 2
    ), "two values in one process"


def test_only_the_case_out_of_memory_is_isolated_and_from_the_start_in_later_replicates(bench):
    stored = bench(plan(replicates=3), 4)
    first = bench.models()[:3]
    (isolated,) = {
        row for row, result in by_row(stored).items() if result.chosen.get("paired") == "one by one"
    }
    assert isolated in MODELS, "the seed is chosen so"
    others = tuple(model for model in MODELS if model != isolated)
    assert first == [
        (BASELINE, CONTROL, *MODELS),
        (BASELINE, CONTROL, *others),
        (BASELINE, CONTROL, isolated),
    ]
    assert bench.models()[3:] == [(BASELINE, CONTROL, *others), (BASELINE, CONTROL, isolated)] * 2
    assert [
        (event.row, event.replicate)
        for event in bench.received_events
        if isinstance(event, events.CaseIsolated)
    ] == [(isolated, 0)]


def test_baseline_has_samples_of_every_worker_and_pairs_share_a_round(bench):
    stored = bench(plan(), 3)
    cells = by_row(stored)
    workers = {round_.attempt for round_ in stored.rounds if round_.replicate == 0}
    assert set(cells["BN"].attempts) == set(cells["BN (control)"].attempts) == workers
    for round_ in stored.rounds:
        models = [case.model for case in stored.plan.groups[0].cases if case.key in round_.samples]
        assert models[:2] == ["good", "good"]
        assert len(models) == 3
    assert len(cells["BN"].samples("forward_s")) == 3 * len(workers)
    assert len(cells["BN"].samples("block_iterations")) == len(workers), (
        "nothing that was timed is dropped"
    )
    assert Counter(
        sample.case[3] for sample in samples(stored) if sample.sample[1] == "forward_s"
    ) == {
        **dict.fromkeys(("BN", "BN (control)"), 2 * 9),
        **dict.fromkeys(MODELS, 2 * 3),
    }


def test_untimed_metrics_of_the_baseline_are_read_once_a_replicate(bench):
    made = dataclasses.replace(plan(), metrics=("time", "utilisation"))
    stored = bench(made, 3)
    assert Counter(bench.observed) == {BASELINE: 1, CONTROL: 1, **dict.fromkeys(MODELS, 1)}, (
        "in the first replicate alone"
    )
    for result in stored.results:
        assert len(result.samples("peak_bytes")) == 1
    stored = bench(
        made,
        3,
        crashes=lambda case: bench.pairing and case.role == BASELINE and len(bench.jobs) == 4,
    )
    assert by_row(stored)["BN"].status == CRASHED
    assert {
        row: len(result.samples("gpu_utilisation")) for row, result in by_row(stored).items()
    } == dict.fromkeys(ALL_FINE, 1), "of one that died as well"
    assert by_row(stored)["BN"].chosen["solver"] == "fake"


def test_control_is_dropped_where_only_two_cases_fit(bench):
    stored = bench(plan(), 2)
    assert statuses(stored) == ALL_FINE
    assert (BASELINE, CONTROL) in bench.models(), "which shows the noise floor"
    assert RunSummary(stored).noise
    pairs = [models for models in bench.models() if len(models) == 2]
    assert {(BASELINE, model) for model in MODELS} < set(pairs)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_dropped_control_is_reported_stored_and_not_retried_with_that_row(bench, device, seed):
    """Of one row, which is a pair from the start, as of several."""
    # on a CPU some may be left with the baseline alone as it is
    for models in (("a",), MODELS) if device == "cuda" else (("a",),):
        stored = bench(plan(device, models=models, seed=seed), 2)
        for replicate in range(2):
            assert {by_row(stored, replicate)[model].chosen["paired"] for model in models} == {
                "one by one, without the control"
            }
        assert [
            tried
            for job, tried in zip(bench.jobs, bench.models(), strict=True)
            if job.replicate == 1
        ] == [
            *((BASELINE, model) for model in models),
            (BASELINE, CONTROL),
        ]
        assert by_row(stored, 1)["BN (control)"].chosen["paired"] == "one by one"
        assert {
            event.replicate
            for event in bench.received_events
            if isinstance(event, events.CaseIsolated)
        } == {0}
        assert any(note.startswith("Paired one by one") for note in build_table(stored).notes)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_only_the_row_that_does_not_fit_beside_the_baseline_is_out_of_memory(bench, device, seed):
    stored = bench(plan(device, seed=seed), 7, needs={"b": 7})
    assert statuses(stored) == {**ALL_FINE, "b": OUT_OF_MEMORY}
    (failed_row,) = {
        event.row for event in bench.received_events if isinstance(event, events.CellFailed)
    }
    assert failed_row == "b"
    assert "out of memory. Tried to allocate" in by_row(stored)["b"].detail


def test_on_a_cpu_other_cases_go_on_and_rounds_of_a_failed_pair_count_once(bench):
    stored = bench(plan("cpu", replicates=1, seed=1), 7, needs={"b": 7})
    assert {
        row: len(result.samples("forward_s"))
        for row, result in by_row(stored).items()
        if result.status == OK
    } == dict.fromkeys(ALL_FINE.keys() - {"b"}, 6)


@pytest.mark.parametrize("seed", range(4))
def test_a_baseline_that_fits_nowhere_is_out_of_memory_itself(bench, seed):
    stored = bench(plan(seed=seed), 4, needs={"good": 9})
    assert statuses(stored)["BN"] == OUT_OF_MEMORY


def test_every_case_is_out_of_memory_where_none_fits(bench):
    stored = bench(plan(), 0)
    assert set(statuses(stored).values()) == {OUT_OF_MEMORY}
    assert len(bench.jobs) == 2 * 5, "what fails with the device to itself is not tried again"


def test_a_smaller_batch_is_not_tried_where_every_row_fits_in_pairs(bench):
    made = plan()
    (group,) = made.groups
    smaller = tuple(dataclasses.replace(case, batch=case.batch + 1) for case in group.cases)
    made = dataclasses.replace(
        made,
        groups=(
            group,
            dataclasses.replace(group, name="smaller", cases=smaller, fallback_of=group.name),
        ),
    )
    stored = bench(made, 3)
    assert {result.group for result in stored.results} == {group.name}
    assert not [event for event in bench.received_events if isinstance(event, events.FallingBack)]


@pytest.mark.parametrize("stop_at", [3, 14, 24, 31, 33, 40, 46])
def test_resumed_run_measures_the_same_pairs(bench, stop_at):
    def stop(event):
        if len(bench.received_events) == stop_at:
            raise KeyboardInterrupt

    uninterrupted = bench(plan(), 3)
    with pytest.raises(Interrupted):
        bench(plan(), 3, on_event=stop)
    stored = bench(plan(), 3, writer=store.resume(bench.writer.path, plan(), {}))
    assert [
        (result.case, result.replicate, result.status, result.chosen) for result in stored.results
    ] == [
        (result.case, result.replicate, result.status, result.chosen)
        for result in uninterrupted.results
    ]
    assert [len(result.samples("forward_s")) for result in stored.results] == [
        len(result.samples("forward_s")) for result in uninterrupted.results
    ]


def test_the_table_names_the_rows_that_were_paired(bench):
    notes = [
        note for note in build_table(bench(plan(), 3)).notes if note.startswith("Paired one by one")
    ]
    assert len(notes) == 1
    assert all(f"{model} (cpu batch 1)" in notes[0] for model in MODELS)
    assert not [note for note in build_table(bench(plan(), 5)).notes if note.startswith("Paired")]


def test_row_out_of_memory_in_its_pair_is_not_labelled_paired(bench):
    (note,) = [
        note
        for note in build_table(bench(plan(), 3, needs={"b": 3})).notes
        if note.startswith("Paired one by one")
    ]
    assert "b (cpu batch 1)" not in note
    assert all(f"{model} (cpu batch 1)" in note for model in "ac")
    assert not [
        note
        for note in build_table(bench(plan(), 9, needs={"b": 9})).notes
        if note.startswith("Paired")
    ]
