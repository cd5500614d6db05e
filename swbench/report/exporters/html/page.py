"""The page: warnings first, then a chart and the sortable tables of every section, notes and footer
last. Its markup is `page.html.j2`.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib import resources
from itertools import groupby
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from swbench.report.escaping import plain
from swbench.report.exporters import Exporter, Style
from swbench.report.exporters.grid import grids
from swbench.report.exporters.html.chart import ratio_chart
from swbench.report.exporters.html.heat import heat_tables
from swbench.report.table import Column, Table


class Html(Exporter):
    """One file. Its security policy allows its own script and style, by hash, and no requests."""

    filename = "table.html"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """The whole document."""
        title = tables[0].title if len(tables) == 1 else "swbench"
        return _template().render(tables=tables, title=title)


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True,
        finalize=_text,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {
        "about": _about,
        "css": Markup(_asset("page.css")),
        "grids": grids,
        "hash": _hash,
        "heat_tables": heat_tables,
        "ratio_chart": ratio_chart,
        "script": Markup(_asset("page.js")),
        "spans": _spans,
        "zip": zip,
    }
    return environment.from_string(_asset("page.html.j2"))


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _text(value: Any) -> Markup:
    """Text for the page, with control characters made visible and markup escaped."""
    return value if isinstance(value, Markup) else Markup(escape(plain(value)))


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _about(table: Table) -> str:
    parts = [f"suite {table.suite}", f"run {table.run}"]
    if created := table.meta.get("created"):
        parts.append(datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M UTC"))
    return " · ".join(parts)


def _spans(columns: Iterable[Column]) -> Iterator[tuple[bool, str, int]]:
    """Neighbouring columns of one span, as (whether they name rows, span, number of columns)."""
    for (names_rows, span), neighbours in groupby(
        columns, lambda column: (column.name == "label", column.span)
    ):
        yield names_rows, span, len(list(neighbours))


HTML = Html()
