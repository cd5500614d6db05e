"""Comparison of a run with the supplement: its FLOPs digit by digit, and its ratios to BN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swbench import formatting as numbers
from swbench.errors import OptionError
from swbench.report.build import build_table
from swbench.report.columns import PASSES, SLOTS
from swbench.report.comparison import NOT_COMPARABLE
from swbench.report.paper import paper_table
from swbench.report.table import Cell, Column, Panel, Row, Section, Table
from swbench.stats.intervals import Interval
from swbench.stats.verdict import verdict

if TYPE_CHECKING:
    from swbench.store import StoredRun

COLUMNS = (
    Column("label", "Model"),
    Column("quantity", "Quantity"),
    Column("ours", "Ours", "ratio", bounds=True, needed=True),
    Column("paper", "Paper", "ratio"),
    Column("ours_over_paper", "Ours / paper", "ratio", bounds=True),
    Column("verdict", "Verdict"),
)

SAME_DIGITS, OTHER_DIGITS = "equal as printed", "differs"


def compare_paper(run: StoredRun) -> Table:
    """A table of every figure that run and supplement have in common. Raises OptionError for a run
    whose suite names no table of the paper.

    Seconds are not compared, because the paper's hardware was another. A ratio is called slower or
    faster than the paper's only if its interval excludes the paper's figure, which is printed with
    three digits and without an interval.
    """
    paper = paper_table(run.plan.paper) if run.plan.paper else None
    if paper is None:
        raise OptionError(
            f"suite {run.plan.suite!r} names no table of the paper to compare "
            "with; table1 and table2 belong to imagenet and cityscapes"
        )
    table = build_table(run, paper)
    sections = tuple(
        Section(section.title, tuple(line for row in section.rows for line in _lines(row, table)))
        for section in table.sections
    )
    sections = tuple(section for section in sections if section.rows)
    return Table(
        title=f"{table.title}, beside {paper.title} of the paper",
        kind="comparison",
        suite=table.suite,
        run=table.run,
        columns=COLUMNS,
        panels=(Panel("Ours and the paper's", tuple(column.name for column in COLUMNS)),),
        sections=sections,
        warnings=table.warnings,
        notes=table.notes,
        footer=table.footer,
        meta=table.meta,
    )


def _lines(row: Row, table: Table):
    ours, printed = row.cell("gflops_paper"), row.cell("paper_gflops")
    if printed.value is not None and ours.value is not None:
        same = numbers.number(ours.value, "gflops") == printed.printed
        cells = {
            "ours": Cell(ours.value, printed=ours.text(table.column("gflops_paper"))),
            "paper": printed,
            "ours_over_paper": Cell(
                ours.value / printed.value, printed=f"{ours.value / printed.value:.5f}"
            ),
            "verdict": Cell(SAME_DIGITS if same else OTHER_DIGITS),
        }
        yield Row(
            row.label,
            {"label": Cell(row.label), "quantity": Cell("GFLOPs (paper's rule)"), **cells},
            row.role,
        )
    for device, which in SLOTS:
        ours, theirs = (
            row.cell(f"ratio_{device}_{which}"),
            row.cell(f"paper_ratio_{device}_{which}"),
        )
        if theirs.value is None:
            continue
        base = {
            "label": Cell(row.label),
            "quantity": Cell(f"{device.upper()} {PASSES[which]}, ratio to BN"),
            "ours": ours,
            "paper": theirs,
        }
        yield Row(
            row.label, {**base, **_ratio_cells(ours, theirs, table.meta["confidence"])}, row.role
        )


def _ratio_cells(ours: Cell, theirs: Cell, confidence: float) -> dict[str, Cell]:
    if ours.value is None:
        return {"verdict": Cell(NOT_COMPARABLE)}
    low, high = (None if bound is None else bound / theirs.value for bound in (ours.low, ours.high))
    ratio = Interval(ours.value / theirs.value, low, high, confidence, 0)
    return {
        "ours_over_paper": Cell(ratio.estimate, low, high),
        "verdict": Cell(verdict(ratio, None)),
    }
