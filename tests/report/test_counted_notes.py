"""Notes on counted operations are not choices at run time, and an operation that could not be
counted is noted once.
"""

from dataclasses import replace

import pytest
from stored_runs import FLOPS, flops, network_group, results_of, rounds_of, stored

from swbench.report.build import build_table
from swbench.report.exporters import export
from swbench.result import COUNTED, Measurement


def run(notes, known=False):
    """A run with counting notes; with `known` a metric with a note has its figure too."""
    group = network_group()
    timed = results_of(group, chosen={"solver": "eigh"})
    norms = [case.norm for case in group.cases]
    counted = [
        replace(
            result,
            replicate=COUNTED,
            attempt="counted",
            chosen=notes,
            measurements=tuple(Measurement(*m) for m in flops(norm) if known or m[0] not in notes),
        )
        for result, norm in zip(results_of(group, replicates=1), norms, strict=True)
    ]
    return stored([group], counted + timed, rounds_of(group, [1, 1, 1.2, 1.25, 1.3]))


def test_counting_chooses_nothing():
    table = build_table(run({"flops_fvcore": "eval mode; leaves out relu_ ×49"}))
    assert any(
        note == "Chosen at run time, by solver asked for: auto on cpu: solver eigh."
        for note in table.notes
    )
    assert not any("relu_" in note for note in table.notes)


def test_an_operation_that_a_rule_does_not_know_is_noted_once():
    table = build_table(run({"flops_paper": "not counted: the paper rule has no cost for silu"}))
    assert table.notes.count("GFLOPs not counted: the paper rule has no cost for silu.") == 1
    row = next(row for section in table.sections for row in section.rows)
    assert row.cell("gflops_paper").value is None
    assert row.cell("gflops_torch").value == FLOPS["bn"][2]


def test_a_figure_that_leaves_operations_out_is_shown_as_a_lower_bound():
    table = build_table(run({"flops_paper": "not counted: silu ×49"}, known=True))
    cell = table.rows[0].cell("gflops_paper")
    assert cell.at_least
    assert cell.value == pytest.approx(FLOPS["bn"][0])
    assert cell.text(table.column("gflops_paper")).startswith("≥ ")
    assert not table.rows[0].cell("gflops_torch").at_least
    assert "≥ " in export(table, "markdown")
    assert '"at_least": true' in export(table, "json")
    assert "≥" not in export(table, "csv")
