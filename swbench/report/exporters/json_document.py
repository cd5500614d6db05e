"""Tables as JSON: every number in full with its interval and status, described by
`table.schema.json`.
"""

import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any

from swbench.report.exporters import Exporter, Style
from swbench.report.table import Cell, Column, Row, Table
from swbench.version import __version__

SCHEMA = 1
"""Format history: 1, the first."""


class JsonDocument(Exporter):
    """`{"schema": 1, "tables": […]}`. It is strict JSON: a number that is not finite is null, and
    its text names the value.
    """

    filename = "table.json"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """All tables in one document."""
        parts = [
            (f'{{"schema": {SCHEMA}, "generator": {_dumps(f"swbench {__version__}")}, "tables": [')
        ]
        for index, table in enumerate(tables):
            parts += [",\n" if index else "\n", *_table(table)]
        return "".join([*parts, "\n]}\n"])


def _dumps(value: Any) -> str:
    # ASCII, because a name may hold characters that change the direction of writing
    return json.dumps(value, allow_nan=False)


@cache
def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the document."""
    return json.loads(
        resources.files(__package__).joinpath("table.schema.json").read_text(encoding="utf-8")
    )


def _table(table: Table) -> Iterator[str]:
    """A table with a line for each of its rows, so that people can read and diff a file of ten
    thousand rows.
    """
    head = {
        "title": table.title,
        "kind": table.kind,
        "suite": table.suite,
        "run": table.run,
        "warnings": list(table.warnings),
        "notes": list(table.notes),
        "footer": dict(table.footer),
        "meta": {name: _finite(value) for name, value in table.meta.items()},
        "columns": [
            {"name": c.name, "header": c.header, "kind": c.kind, "span": c.span}
            for c in table.columns
        ],
        "panels": [
            {"title": panel.title, "columns": list(panel.columns), "detail": panel.detail}
            for panel in table.panels
        ],
    }
    yield (
        "{"
        + ",\n ".join(f"{_dumps(name)}: {_dumps(value)}" for name, value in head.items())
        + ',\n "sections": ['
    )
    for index, section in enumerate(table.sections):
        yield (
            f'{"," if index else ""}\n  {{"title": {_dumps(section.title)}, "notes": '
            f'{_dumps(list(section.notes))}, "rows": ['
        )
        rows = (
            _dumps({"label": r.label, "role": r.role, "mark": r.mark, "cells": _cells(r, table)})
            for r in section.rows
        )
        yield "\n   " + ",\n   ".join(rows) + "]}"
    yield "]}"


def _cells(row: Row, table: Table) -> dict[str, Any]:
    """Every cell with a value or a status."""
    return {
        name: _cell(cell, table.column(name))
        for name, cell in row.cells.items()
        if cell.value is not None or cell.status
    }


def _cell(cell: Cell, column: Column) -> dict[str, Any]:
    """`value` and `text`, and those of the other fields that are set."""
    fields: dict[str, Any] = {"value": _finite(cell.value), "text": cell.text(column)}
    for name in ("low", "high", "status", "verdict", "detail"):
        value = getattr(cell, name)
        if value not in (None, ""):
            fields[name] = _finite(value)
    if cell.at_least:
        fields["at_least"] = True
    return fields


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


JSON = JsonDocument()
