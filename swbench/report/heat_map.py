"""Heat maps of the ratios to the baseline over all settings of a run: rows by settings, a grid for
each pass and one for peak memory. The plot `settings`, the HTML page and Markdown show them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from swbench.case import BASELINE, TRAIN, VARIANT
from swbench.formatting import MISSING, interval, ratio
from swbench.report.columns import PASSES, SPANS
from swbench.report.table import EMPTY_CELL, Cell, Row, Section, Table

LEAST_REACH = math.log(1.05)
"""Least range of the colours to each side of 1 (5 %), so that noise stays pale. Heuristic."""

CONTROL = "identical BN"

USUAL = {
    "phase": (TRAIN,),
    "{d}_mode": ("eager",),
    "layout": ("contiguous",),
}
"""Columns with their usual values; a setting's name holds those that differ."""


@dataclass(frozen=True)
class HeatMap:
    """One grid: `cells` by row and setting. A cell that was not measured has no value."""

    title: str
    rows: tuple[str, ...]
    settings: tuple[str, ...]
    cells: Mapping[tuple[str, str], Cell]

    def cell(self, row: str, setting: str) -> Cell:
        """The ratio of `row` in `setting`."""
        return self.cells.get((row, setting), EMPTY_CELL)

    def texts(self, row: str, setting: str) -> tuple[str, ...]:
        """`1.012` and, where there is one, its interval `[1.003, 1.021]`; `–` where nothing was
        measured.
        """
        cell = self.cell(row, setting)
        if cell.value is None:
            return (MISSING,)
        bounds = cell.low is not None and cell.high is not None
        return (ratio(cell.value), *((interval(cell.low, cell.high, "ratio"),) if bounds else ()))


def largest_distance(maps: "tuple[HeatMap, ...]") -> float:
    """The largest distance of a ratio from 1 on the logarithmic scale, which the colours span."""
    distances = [
        abs(math.log(cell.value))
        for heat_map in maps
        for cell in heat_map.cells.values()
        if cell.value is not None and cell.value > 0
    ]
    return max([LEAST_REACH, *distances])


def heat_maps(table: Table) -> tuple[HeatMap, ...]:
    """The grids of a network table. There are none unless two settings differ in more than batch
    and image, which the plot `scaling` shows.
    """
    if table.kind != "network" or len({_setting_key(section) for section in table.sections}) < 2:
        return ()
    return tuple(
        heat_map
        for device in SPANS
        for what, letters in (*PASSES.items(), ("memory", "peak memory"))
        if (heat_map := _grid(table, device, what, letters)) is not None
    )


def _grid(table: Table, device: str, what: str, letters: str) -> HeatMap | None:
    names = _names(table, device)
    cells: dict[tuple[str, str], Cell] = {}
    for section in table.sections:
        for label, cell in _ratios(section, device, what):
            if cell.value is not None:
                cells.setdefault((label, names[id(section)]), cell)
    if not cells:
        return None
    labels = dict.fromkeys(label for label, _ in cells if label != CONTROL)
    rows = (*labels, CONTROL) if any(label == CONTROL for label, _ in cells) else tuple(labels)
    measured = {setting for _, setting in cells}
    settings = [name for name in dict.fromkeys(names.values()) if name in measured]
    return HeatMap(f"{SPANS[device]} {letters}", rows, tuple(settings), cells)


def _ratios(section: Section, device: str, what: str) -> list[tuple[str, Cell]]:
    rows = [row for row in section.rows if row.role == VARIANT]
    if what != "memory":
        name = f"ratio_{device}_{what}"
        ratios = [(row.label, row.cell(name)) for row in rows]
        return [*ratios, (CONTROL, section.control.get(name, EMPTY_CELL))]
    name = f"{device}_peak_bytes"
    base = next((row.cell(name).value for row in section.rows if row.role == BASELINE), None)
    return [
        (row.label, Cell(row.cell(name).value / base))
        for row in rows
        if base and row.cell(name).value is not None
    ]


def _baseline_row(section: Section) -> Row:
    return next((row for row in section.rows if row.role == BASELINE), section.rows[0])


def _setting_key(section: Section) -> tuple:
    row = _baseline_row(section)
    columns = ("dtype", "layout", "phase", "cpu_mode", "gpu_mode")
    return tuple(row.cell(name).value for name in columns)


def _names(table: Table, device: str) -> dict[int, str]:
    """The name of each section's setting, by `id` of the section: unusual values, and batch and
    image where there are several.
    """
    baseline_rows = {id(section): _baseline_row(section) for section in table.sections}
    varying = [
        (name, word)
        for name, word in ((f"{device}_batch", "batch {}"), ("image", "{} px"))
        if len({row.cell(name).value for row in baseline_rows.values()} - {None}) > 1
    ]
    names = {}
    for section, row in baseline_rows.items():
        words = [str(row.cell("dtype").value)]
        for column, usual in USUAL.items():
            value = row.cell(column.format(d=device)).value
            words += [str(value)] if value is not None and value not in usual else []
        words += [
            word.format(row.cell(name).value)
            for name, word in varying
            if row.cell(name).value is not None
        ]
        names[section] = ", ".join(words)
    return names
