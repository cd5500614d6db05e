"""The table that every exporter writes: numbers with their intervals and statuses, never rounded
text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from swbench.formatting import (
    AT_LEAST_MARK,
    FORMATS,
    MISSING,
    NO_DIFFERENCE_MARK,
    interval,
    number,
    status_words,
)
from swbench.stats.verdict import NO_DIFFERENCE, NOT_RESOLVED

if TYPE_CHECKING:
    from swbench.store import StoredRun

TEXT = "text"


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    `name` is the name in CSV and JSON and carries the unit; `header` is for people; `kind` chooses
    the number format (`text` for none); `span` is the heading it shares with its neighbours (CPU,
    GPU); `bounds` says that an interval belongs to the value; `needed` that a cell without a value
    prints its status even in CSV.
    """

    name: str
    header: str
    kind: str = TEXT
    span: str = ""
    bounds: bool = False
    needed: bool = False

    @property
    def numeric(self) -> bool:
        """Whether the column holds numbers."""
        return self.kind in FORMATS


_MARKS = {NO_DIFFERENCE: NO_DIFFERENCE_MARK, NOT_RESOLVED: NOT_RESOLVED}
"""Marks after a ratio, by its verdict."""


class Cell(NamedTuple):
    """A value in SI units with its interval; or, where `value` is None, the `status` that says why.

    `printed` is the text of a figure that is quoted as its source prints it, `verdict` the meaning
    of an interval, `detail` a longer explanation. `at_least` says that the value is a lower bound.
    """

    value: float | int | str | None = None
    low: float | None = None
    high: float | None = None
    status: str = ""
    printed: str = ""
    verdict: str = ""
    detail: str = ""
    at_least: bool = False

    def text(self, column: Column) -> str:
        """The text for people: `1.246 [1.231, 1.262]`, `≥ 0.385`, `no GPU`, `out of memory`."""
        if self.printed:
            return self.printed
        if self.value is None:
            return status_words(self.status) if self.status else MISSING
        if not column.numeric:
            return str(self.value)
        text = f"{AT_LEAST_MARK} " * self.at_least + number(self.value, column.kind)
        if column.bounds:
            text += (
                f" {interval(self.low, self.high, column.kind)}"
                if self.low is not None and self.high is not None
                else " [no interval]"
            )
        return f"{text} {_MARKS[self.verdict]}" if self.verdict in _MARKS else text


EMPTY_CELL = Cell()


@dataclass(frozen=True, slots=True)
class Row:
    """One model and solver (or one solver): its cells by column name. `role` is the case's, `mark`
    a sign after its label (`★` for the best). Formats may fold `minor` rows away.
    """

    label: str
    cells: Mapping[str, Cell]
    role: str = "variant"
    mark: str = ""
    minor: bool = False

    def cell(self, name: str) -> Cell:
        """The cell in the column called `name`; an empty one where the row has nothing there."""
        return self.cells.get(name, EMPTY_CELL)


@dataclass(frozen=True)
class Section:
    """Rows under one setting (batch, image, device …), with notes on them. `control` holds the
    ratios of the control, by column.
    """

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    control: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """Columns that are read together; formats for people write one table for each panel and
    section. A `detail` panel is left out where space is short.
    """

    title: str
    columns: tuple[str, ...]
    detail: bool = False


@dataclass(frozen=True)
class Table:
    """A run as a table, for people and programs.

    `warnings` come before everything else in every format; `notes` explain marks and sources;
    `footer` holds the environment, the command to reproduce the run and how quiet the machine was.
    `columns` is every column in CSV order, the same for all runs of a `kind`.
    """

    title: str
    kind: str
    suite: str
    run: str
    columns: tuple[Column, ...]
    panels: tuple[Panel, ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    footer: tuple[tuple[str, str], ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    source: StoredRun | None = field(default=None, repr=False, compare=False)

    def column(self, name: str) -> Column:
        """The column called `name`. Raises KeyError if there is none."""
        column = self._by_name.get(name)
        if column is None:
            raise KeyError(name)
        return column

    @property
    def _by_name(self) -> dict[str, Column]:
        index = self.__dict__.get("_index")
        if index is None:
            index = {column.name: column for column in self.columns}
            object.__setattr__(self, "_index", index)
        return index

    @property
    def without_minor_rows(self) -> Table | None:
        """The table without its minor rows; None where it has none."""
        if not any(row.minor for row in self.rows):
            return None
        sections = [
            replace(section, rows=tuple(row for row in section.rows if not row.minor))
            for section in self.sections
        ]
        return replace(self, sections=tuple(section for section in sections if section.rows))

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all sections, in order."""
        return tuple(row for section in self.sections for row in section.rows)
