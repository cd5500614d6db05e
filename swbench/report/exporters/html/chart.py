"""Ratios with their intervals as a drawing inside the page: plain SVG, coloured by the page's
style, readable without colour.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from swbench.formatting import ratio
from swbench.report.escaping import plain
from swbench.report.table import Cell, Section, Table

MOST_ROWS = 24
"""Largest number of rows in a chart; more would not be legible."""

LINE, TOP, LABELS, PLOT, RIGHT = 22, 14, 176, 280, 14
"""Pixels: height of a line, of the head, width of the labels, of the plot, of the margin at the
right.
"""


@dataclass(frozen=True)
class _Mark:
    label: str
    which: str
    cell: Cell
    paper: float | None


def ratio_chart(table: Table, section: Section) -> str:
    """A figure of all ratios to the baseline in a section; empty where there is none."""
    columns = [
        column
        for column in table.columns
        if column.name.startswith("ratio_") and not column.name.startswith("ratio_undisturbed")
    ]
    marks = [
        _Mark(
            row.label,
            column.header,
            row.cell(column.name),
            _number(row.cell(f"paper_{column.name}")),
        )
        for column in columns
        for row in section.rows
        if row.role == "variant"
        and isinstance(row.cell(column.name).value, float)
        and row.cell(column.name).value > 0
    ]
    if not marks or len(marks) > MOST_ROWS:
        return ""
    return "".join(_figure(marks))


def _number(cell: Cell) -> float | None:
    return cell.value if isinstance(cell.value, float) else None


def _figure(marks: list[_Mark]) -> Iterator[str]:
    ends = [
        end
        for mark in marks
        for end in (mark.cell.low, mark.cell.high, mark.cell.value, mark.paper, 1.0)
        if end
    ]
    low, high = min(ends), max(ends)
    low, high = low - 0.06 * (high - low) - 0.01, high + 0.06 * (high - low) + 0.01
    logarithmic = high / max(low, 1e-9) > 8  # decades: a linear axis would crush what is near 1
    if logarithmic:
        low, high = min(ends) / 1.15, max(ends) * 1.15

    def x(value: float) -> float:
        share = (
            math.log(value / low) / math.log(high / low)
            if logarithmic
            else (value - low) / (high - low)
        )
        return LABELS + PLOT * share

    width, height = LABELS + PLOT + RIGHT, TOP + LINE * len(marks) + 24
    paper = any(mark.paper for mark in marks)
    key = "● ours with its interval" + (", ◇ the paper's ratio" if paper else "")
    yield (
        f'<figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="Ratios to the '
        'baseline">'
    )
    for tick in _ticks(low, high, logarithmic):
        yield (
            f'<line class="grid" x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{TOP - 6}" '
            f'y2="{height - 22}"/>'
        )
        yield f'<text class="tick" x="{x(tick):.1f}" y="{height - 6}">{tick:g}</text>'
    yield f'<line class="one" x1="{x(1):.1f}" x2="{x(1):.1f}" y1="{TOP - 6}" y2="{height - 22}"/>'
    for index, mark in enumerate(marks):
        y = TOP + LINE * index + LINE / 2
        name = escape(plain(f"{mark.label} {mark.which}"))
        short = escape(_shortened(plain(mark.label), 22 - len(mark.which)) + f" {mark.which}")
        yield f'<text class="name" x="{LABELS - 10}" y="{y + 4:.1f}">{short}</text>'
        if mark.cell.low and mark.cell.high:
            yield (
                f'<line class="bar" x1="{x(mark.cell.low):.1f}" x2="{x(mark.cell.high):.1f}" '
                f'y1="{y:.1f}" y2="{y:.1f}"/>'
            )
        if mark.paper:
            p = x(mark.paper)
            yield (
                f'<path class="paper" d="M{p - 5:.1f} {y:.1f}L{p:.1f} '
                f'{y - 5:.1f}L{p + 5:.1f} {y:.1f}L{p:.1f} {y + 5:.1f}Z"/>'
            )
        yield (
            f'<circle class="dot" cx="{x(mark.cell.value):.1f}" cy="{y:.1f}" '
            f'r="4"><title>{name} {ratio(mark.cell.value)}</title></circle>'
        )
    yield (
        f"</svg><figcaption>Ratio to the baseline (1 = the same time): {key}.</figcaption></figure>"
    )


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [
            m * 10.0**p
            for p in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for m in (1, 2, 5)
            if low <= m * 10.0**p <= high
        ]
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 7)
    return [round(step * n, 10) for n in range(math.ceil(low / step), math.floor(high / step) + 1)]
