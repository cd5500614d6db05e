"""Grids, the texts of one section's columns of one panel, from which every format for people is
written.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from swbench.report.table import Cell, Column, Panel, Row, Section, Table


@dataclass(frozen=True)
class Grid:
    """One printed table: its columns and, for every row, the cells in the same order with their
    texts. The label's text ends with the row's mark.
    """

    panel: Panel
    section: Section
    columns: tuple[Column, ...]
    rows: tuple[tuple[Row, tuple[Cell, ...]], ...]
    texts: tuple[tuple[str, ...], ...]

    def with_columns(self, names: tuple[str, ...]) -> "Grid":
        """The grid with only the columns in `names`."""
        indices = [index for index, column in enumerate(self.columns) if column.name in names]
        return Grid(
            self.panel,
            self.section,
            tuple(self.columns[index] for index in indices),
            tuple((row, tuple(cells[index] for index in indices)) for row, cells in self.rows),
            tuple(tuple(texts[index] for index in indices) for texts in self.texts),
        )


def grid(table: Table, section: Section, panel: Panel) -> Grid:
    """The grid of the columns of `panel` in `section`."""
    columns = tuple(table.column(name) for name in panel.columns)
    rows = tuple((row, tuple(row.cell(column.name) for column in columns)) for row in section.rows)
    texts = tuple(
        tuple(_text(row, cell, column) for cell, column in zip(cells, columns, strict=True))
        for row, cells in rows
    )
    return Grid(panel, section, columns, rows, texts)


def _text(row: Row, cell: Cell, column: Column) -> str:
    text = cell.text(column)
    return f"{text} {row.mark}" if row.mark and column.name == "label" else text


def grids(table: Table, *, details: bool) -> Iterator[tuple[Section, list[Grid]]]:
    """Every section with its panels' grids; panels marked as details only with `details`."""
    panels = [panel for panel in table.panels if details or not panel.detail]
    for section in table.sections:
        yield section, [grid(table, section, panel) for panel in panels]
