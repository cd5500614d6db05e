"""A section seen through a panel: the texts of one table as people read it. Every format for people
is written from these.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from swbench.report.table import Cell, Column, Panel, Row, Section, Table


@dataclass(frozen=True)
class Grid:
    """One table to set: its columns and, for every row, the cells in the same order and their texts
    as people read them; the label carries the row's mark.
    """

    panel: Panel
    section: Section
    columns: tuple[Column, ...]
    rows: tuple[tuple[Row, tuple[Cell, ...]], ...]
    texts: tuple[tuple[str, ...], ...]

    def only(self, names: tuple[str, ...]) -> "Grid":
        """The same grid with fewer columns."""
        keep = [index for index, column in enumerate(self.columns) if column.name in names]
        return Grid(
            self.panel,
            self.section,
            tuple(self.columns[index] for index in keep),
            tuple((row, tuple(cells[index] for index in keep)) for row, cells in self.rows),
            tuple(tuple(texts[index] for index in keep) for texts in self.texts),
        )


def grid(table: Table, section: Section, panel: Panel) -> Grid:
    """`section` through `panel`."""
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
    """Every section with its panels, those marked as details on request only."""
    panels = [panel for panel in table.panels if details or not panel.detail]
    for section in table.sections:
        yield section, [grid(table, section, panel) for panel in panels]
