"""The one object that every exporter writes: numbers with their intervals and statuses, never text
that was rounded on the way.
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
"""What stands behind a ratio, by its verdict."""


class Cell(NamedTuple):
    """A value in SI units with its interval; or, where `value` is None, the `status` that says why.

    `printed` is the text of a figure that is quoted as its source prints it; `verdict` what an
    interval means; `detail` a longer explanation; `at_least` says that the value is a lower bound.
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
        """What people read: `1.246 [1.231, 1.262]`, `≥ 0.385`, `no GPU`, `out of memory`."""
        if self.printed:
            return self.printed
        if self.value is None:
            return status_words(self.status) if self.status else MISSING
        if not column.numeric:
            return str(self.value)
        shown = f"{AT_LEAST_MARK} " * self.at_least + number(self.value, column.kind)
        if column.bounds:
            shown += (
                f" {interval(self.low, self.high, column.kind)}"
                if self.low is not None and self.high is not None
                else " [no interval]"
            )
        return f"{shown} {_MARKS[self.verdict]}" if self.verdict in _MARKS else shown


NOTHING = Cell()


@dataclass(frozen=True, slots=True)
class Row:
    """One model and solver (or one solver): its cells by column name. `role` is the case's; `mark`
    singles it out (`★` for the best); `minor` rows may be folded away where there are many.
    """

    label: str
    cells: Mapping[str, Cell]
    role: str = "variant"
    mark: str = ""
    minor: bool = False

    def cell(self, name: str) -> Cell:
        """The cell in the column called `name`; an empty one where the row has nothing there."""
        return self.cells.get(name, NOTHING)


@dataclass(frozen=True)
class Section:
    """Rows under one setting (batch, image, device …), with what is to be said about them.
    `control` holds the ratios of the baseline's identical twin, by column.
    """

    title: str
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    control: Mapping[str, Cell] = field(default_factory=dict)


@dataclass(frozen=True)
class Panel:
    """A choice of columns that is read together; human formats write one table a panel and section.
    `detail`: left out where space is short.
    """

    title: str
    columns: tuple[str, ...]
    detail: bool = False


@dataclass(frozen=True)
class Table:
    """A run as people and programs read it.

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
        found = self._by_name.get(name)
        if found is None:
            raise KeyError(name)
        return found

    @property
    def _by_name(self) -> dict[str, Column]:
        index = self.__dict__.get("_index")
        if index is None:
            index = {column.name: column for column in self.columns}
            object.__setattr__(self, "_index", index)
        return index

    @property
    def foremost(self) -> Table | None:
        """The table without its minor rows; None where it has none."""
        if not any(row.minor for row in self.rows):
            return None
        kept = [
            replace(section, rows=tuple(row for row in section.rows if not row.minor))
            for section in self.sections
        ]
        return replace(self, sections=tuple(section for section in kept if section.rows))

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows of all sections, in order."""
        return tuple(row for section in self.sections for row in section.rows)
