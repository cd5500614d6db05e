"""Tables as JSON: every number in full with its interval and status, described by `table.schema.json`."""

import json
import math
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from swbench import __version__
from swbench.report.exporters import Exporter, Style
from swbench.report.table import Cell, Column, Table

SCHEMA = 1
"""Format history: 1, the first."""


class JsonDocument(Exporter):
    """`{"schema": 1, "tables": […]}`; strict JSON, so a number that is not finite is null and its text says which."""

    filename = "table.json"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """All tables in one document."""
        document = {"schema": SCHEMA, "generator": f"swbench {__version__}", "tables": [_table(table) for table in tables]}
        return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


@cache
def schema() -> dict[str, Any]:
    """The JSON schema (draft 2020-12) of the document."""
    return json.loads(resources.files(__package__).joinpath("table.schema.json").read_text(encoding="utf-8"))


def _table(table: Table) -> dict[str, Any]:
    return {
        "title": table.title,
        "kind": table.kind,
        "suite": table.suite,
        "run": table.run,
        "warnings": list(table.warnings),
        "notes": list(table.notes),
        "footer": dict(table.footer),
        "meta": {name: _finite(value) for name, value in table.meta.items()},
        "columns": [{"name": c.name, "header": c.header, "kind": c.kind, "span": c.span} for c in table.columns],
        "panels": [{"title": panel.title, "columns": list(panel.columns), "detail": panel.detail} for panel in table.panels],
        "sections": [
            {
                "title": section.title,
                "notes": list(section.notes),
                "rows": [
                    {
                        "label": row.label,
                        "role": row.role,
                        "mark": row.mark,
                        "cells": {name: _cell(cell, table.column(name)) for name, cell in row.cells.items()},
                    }
                    for row in section.rows
                ],
            }
            for section in table.sections
        ],
    }


def _cell(cell: Cell, column: Column) -> dict[str, Any]:
    """`value` and `text` always; the rest where there is any."""
    found: dict[str, Any] = {"value": _finite(cell.value), "text": cell.text(column)}
    for name in ("low", "high", "status", "verdict", "detail"):
        value = getattr(cell, name)
        if value not in (None, ""):
            found[name] = _finite(value)
    return found


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


JSON = JsonDocument()
