"""A run that tries batches from the largest down: every batch that was measured has its rows, and
the note says why there are several.
"""

from dataclasses import replace

import pytest
from stored_runs import ENVIRONMENT, network_group, results_of, rounds_of, stored

from swbench.report import exporters
from swbench.report.build import build_table
from swbench.report.run_summary import RunSummary

DETAIL = "peak 78.10 GiB of 79.10 GiB; CUDA out of memory. Tried to allocate 20.00 GiB."
OOM = "out_of_memory"


def chain(*batches):
    groups, before = [], None
    for batch in batches:
        name = f"cuda batch {batch} 713x713"
        groups.append(
            replace(
                network_group(name, device="cuda", batch=batch, threads=0, image=(713, 713)),
                fallback_of=before,
            )
        )
        before = name
    return groups


def a_run(full, fields=None):
    """A chain of 16, 8 and 4, of which the SW^b rows of the first `full` ran out of memory; the
    first that did not has three replicates.
    """
    groups = chain(16, 8, 4)
    results, rounds = [], []
    for position, group in enumerate(groups[: full + 1]):
        lacks, count = position < full, 1 if position < full else 3
        results += results_of(
            group, replicates=count, statuses={4: OOM} if lacks else {}, details={4: DETAIL}
        )
        rounds += rounds_of(
            group,
            [1, 1, 1.2, 1.25, None if lacks else 1.3],
            replicates=count,
            base_s=0.01 * group.cases[0].batch,
        )
    fields = {
        "environment": {**ENVIRONMENT, "gpus": [{"name": "Fake"}]},
        "paper": "table2",
        **(fields or {}),
    }
    return stored(groups, results, rounds, **fields)


def test_every_batch_that_was_tried_has_its_rows():
    table = build_table(a_run(full=2))
    assert [section.title for section in table.sections] == [
        f"713×713 px, float32; GPU batch {batch}" for batch in (16, 8, 4)
    ]
    assert [[row.cell("status").value for row in section.rows] for section in table.sections] == [
        ["ok"] * 3 + ["out of memory"]
    ] * 2 + [["ok"] * 4]
    lacking = table.sections[0].rows[3]
    assert lacking.cell("gpu_fb_s").status == OOM
    assert lacking.cell("detail").value == DETAIL
    assert lacking.cell("gpu_batch").value == 16
    assert table.sections[2].rows[3].cell("ratio_gpu_fb").value == pytest.approx(1.3, rel=0.05)


def test_a_batch_that_was_not_needed_has_none():
    run = a_run(full=0)
    table = build_table(run)
    assert [section.title for section in table.sections] == ["713×713 px, float32; GPU batch 16"]
    assert not [note for note in table.notes if note.startswith("Batches")]
    assert not [warning for warning in table.warnings if "INTERRUPTED" in warning]
    assert {cell.status for cell in RunSummary(run).cells} == {"ok"}


def test_the_note_names_the_batch_measured_in_place_of_another():
    (note,) = [note for note in build_table(a_run(full=2)).notes if note.startswith("Batches")]
    assert (
        "cuda batch 16 713x713: 1 case out of memory, so cuda batch 8 713x713 takes its "
        "place; cuda batch 8"
    ) in note
    assert note.endswith("Ratios are of one batch each.")
    assert "until one at which every row fits the device" in note


def test_the_note_is_true_of_a_batch_that_ran_out_late_and_of_the_last():
    late, last = chain(16, 8)
    results = results_of(late, replicates=2, statuses={(4, 1): OOM}) + results_of(
        last, replicates=3, statuses={4: OOM}, details={4: DETAIL}
    )
    run = stored([late, last], results, rounds_of(late, [1, 1, 1.2, 1.25, 1.3], replicates=1))
    (note,) = [note for note in build_table(run).notes if note.startswith("Batches")]
    assert "one replicate of each" not in note
    assert (
        "one of which a row does not, even alone with the baseline, gets no replicate after "
        "the one that shows it, unless it is the smallest: "
    ) in note
    assert (
        "cuda batch 16 713x713: 1 case out of memory, so cuda batch 8 713x713 takes its place"
    ) in note
    assert (
        "cuda batch 8 713x713: 1 case out of memory, and there is no smaller batch to try" in note
    )


def test_a_note_says_that_no_batch_fits():
    run = a_run(full=1)
    last = run.plan.groups[1]
    results = [
        *run.results[:5],
        *results_of(last, statuses={2: OOM, 4: OOM}, details={2: DETAIL, 4: DETAIL}),
    ]
    run = replace(run, plan=replace(run.plan, groups=run.plan.groups[:2]), results=tuple(results))
    (note,) = [note for note in build_table(run).notes if note.startswith("Batches")]
    assert (
        "cuda batch 8 713x713: 2 cases out of memory, and there is no smaller batch to try" in note
    )


def test_an_interrupted_run_waits_only_for_groups_that_are_due():
    run = a_run(full=1, fields={"complete": False})
    results_left = [result for result in run.results if result.group == "cuda batch 16 713x713"]
    run = replace(run, results=tuple(results_left))
    table = build_table(run)
    assert [row.cell("status").value for row in table.sections[1].rows] == ["not finished"] * 4
    assert len(table.sections) == 2
    assert "INTERRUPTED: the run is not complete: 4 of 8 cells" in table.warnings[0]


def test_a_batch_given_up_after_one_replicate_is_not_called_unstable():
    protocol = replace(a_run(full=1).plan.protocol, target_ci=0.5)
    run = a_run(full=1, fields={"protocol": protocol})
    assert not [cell for cell in RunSummary(run).cells if cell.unstable]
    tight = a_run(full=1, fields={"protocol": replace(protocol, target_ci=1e-6)})
    assert {cell.group.name for cell in RunSummary(tight).cells if cell.unstable} == {
        "cuda batch 8 713x713"
    }


@pytest.mark.parametrize("name", ["table", "markdown", "csv", "latex", "json", "html"])
def test_every_format_shows_both_batches(name):
    text = exporters.export([build_table(a_run(full=1))], name)
    assert "16" in text
    assert "out of memory" in text.replace("_", " ")
