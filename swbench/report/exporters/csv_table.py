"""The table as CSV: fixed columns with units in their names, a row for each model and solver,
numbers in full precision.
"""

import csv
import io
from collections.abc import Iterable, Sequence

from swbench.errors import OptionError
from swbench.formatting import status_words
from swbench.report.escaping import spreadsheet
from swbench.report.exporters import Exporter, Style
from swbench.report.table import Cell, Column, Table


class CsvTable(Exporter):
    """One header for all tables; a value with an interval is followed by its bounds."""

    filename = "table.csv"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """All rows of all tables. Raises OptionError for tables of different kinds, whose columns
        differ.
        """
        kinds = dict.fromkeys(table.kind for table in tables)
        if len(kinds) > 1:
            raise OptionError(
                f"one CSV cannot hold tables of {' and '.join(kinds)}; export them separately"
            )
        if not tables:
            return ""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(header(tables[0].columns))
        for table in tables:
            writer.writerows(
                [text for column in table.columns for text in texts(row.cell(column.name), column)]
                for row in table.rows
            )
        return out.getvalue()


def header(columns: Iterable[Column]) -> list[str]:
    """Names of all columns, with `_low` and `_high` after those that carry an interval."""
    return [
        name
        for column in columns
        for name in (
            [column.name, f"{column.name}_low", f"{column.name}_high"]
            if column.bounds
            else [column.name]
        )
    ]


def texts(cell: Cell, column: Column) -> list[str]:
    """The stored value; the status where a needed column has no value; else empty."""
    if cell.value is None:
        first = spreadsheet(status_words(cell.status)) if column.needed and cell.status else ""
    else:
        first = plain_number(cell.value) if column.numeric else spreadsheet(cell.value)
    return [first, plain_number(cell.low), plain_number(cell.high)] if column.bounds else [first]


def plain_number(value: float | int | None) -> str:
    """The shortest text that reads back as the same number; empty for None."""
    return "" if value is None else repr(value)


CSV = CsvTable()
