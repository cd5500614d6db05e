"""The page: warnings first, then a chart and the sortable tables of every section, notes and footer
last.
"""

import base64
import hashlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from html import escape
from importlib import resources

from swbench.report.exporters import Exporter, Style
from swbench.report.exporters.grid import Grid, grids
from swbench.report.exporters.html.chart import ratio_chart
from swbench.report.safe import plain
from swbench.report.table import Cell, Column, Row, Table


class Html(Exporter):
    """One file. Its security policy allows the one script and the one style that it carries, by
    hash, and no request at all.
    """

    filename = "table.html"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """The whole document."""
        css, script = _asset("page.css"), _asset("page.js")
        policy = (
            f"default-src 'none'; style-src '{_hash(css)}'; script-src '{_hash(script)}'; "
            "base-uri 'none'; form-action 'none'"
        )
        title = _text(tables[0].title if len(tables) == 1 else "swbench")
        body = "\n".join(
            line for index, table in enumerate(tables) for line in _article(table, index)
        )
        return (
            "<!DOCTYPE html>\n"
            '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n<meta name="referrer" '
            'content="no-referrer">\n'
            f"<title>{title}</title>\n<style>{css}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n<script>{script}</script>\n</body>\n</html>\n"
        )


@cache
def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _text(text: object) -> str:
    """Text for an element or an attribute."""
    return escape(plain(text))


def _article(table: Table, index: int) -> Iterator[str]:
    yield f'<article id="t{index}"><h1>{_text(table.title)}</h1>'
    yield f'<p class="about">{_text(_about(table))}</p>'
    if table.warnings:
        yield (
            '<section class="warnings" role="note" aria-label="Warnings"><h2>Read this '
            "first</h2><ul>"
        )
        yield from (f"<li>{_text(warning)}</li>" for warning in table.warnings)
        yield "</ul></section>"
    for section, found in grids(table, details=True):
        yield f"<section><h2>{_text(section.title)}</h2>"
        yield ratio_chart(table, section)
        for grid in found:
            yield from _grid(grid)
        yield from (f"<p>{_text(note)}</p>" for note in section.notes)
        yield "</section>"
    yield '<section class="notes"><h2>Notes</h2><ul>'
    yield from (f"<li>{_text(note)}</li>" for note in table.notes)
    yield "</ul><dl>"
    for name, text in table.footer:
        shown = f"<code>{_text(text)}</code>" if name == "Reproduce" else _text(text)
        yield f"<dt>{_text(name)}</dt><dd>{shown}</dd>"
    yield "</dl></section></article>"


def _about(table: Table) -> str:
    parts = [f"suite {table.suite}", f"run {table.run}"]
    if created := table.meta.get("created"):
        parts.append(datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%d %H:%M UTC"))
    return " · ".join(parts)


def _grid(grid: Grid) -> Iterator[str]:
    opened = "" if grid.panel.detail else " open"
    yield (
        f'<details{opened}><summary>{_text(grid.panel.title)}</summary><div class="wide" '
        'tabindex="0"><table><thead>'
    )
    if any(column.span for column in grid.columns):
        yield f"<tr>{''.join(_spans(grid.columns))}</tr>"
    heads = (
        (
            f'<th scope="col" class="{_head(column)}" aria-sort="none"><button '
            f'type="button">{_text(_header(column))}</button></th>'
        )
        for column in grid.columns
    )
    yield f"<tr>{''.join(heads)}</tr></thead><tbody>"
    for (row, cells), texts in zip(grid.rows, grid.texts, strict=True):
        yield (
            f'<tr class="{_row_class(row)}">'
            + "".join(map(_cell, cells, texts, grid.columns))
            + "</tr>"
        )
    yield "</tbody></table></div></details>"


def _spans(columns: tuple[Column, ...]) -> Iterator[str]:
    start = 0
    while start < len(columns):
        if _names_rows(columns[start]):
            yield '<td class="label"></td>'
            start += 1
            continue
        end = start
        while end < len(columns) and columns[end].span == columns[start].span:
            end += 1
        span = columns[start].span
        yield (
            f'<th scope="colgroup" class="span" colspan="{end - start}">{_text(span)}</th>'
            if span
            else f'<td colspan="{end - start}"></td>'
        )
        start = end


def _header(column: Column) -> str:
    return column.header.removeprefix(f"{column.span} ") if column.span else column.header


def _class(column: Column) -> str:
    return "n" if column.numeric else "x"


def _head(column: Column) -> str:
    return f"{_class(column)} label" if _names_rows(column) else _class(column)


def _names_rows(column: Column) -> bool:
    """Whether the column stays where it is while the others scroll, its header too."""
    return column.name == "label"


def _row_class(row: Row) -> str:
    return " ".join(
        name
        for name in (row.role, "best" if row.mark else "")
        if name in ("baseline", "control", "variant", "best") or name
    )


def _cell(cell: Cell, text: str, column: Column) -> str:
    """`data-v` is what sorting compares: the number itself, so that rounded texts do not decide."""
    kind = _class(column)
    if cell.value is None and cell.status:
        kind += " failed"
    elif cell.verdict in ("slower", "faster"):
        kind += f" {cell.verdict}"
    value = f' data-v="{cell.value!r}"' if isinstance(cell.value, int | float) else ""
    hint = f' title="{_text(cell.detail)}"' if cell.detail else ""
    tag = 'th scope="row"' if _names_rows(column) else "td"
    return f'<{tag} class="{kind}"{value}{hint}>{_text(text)}</{tag.split()[0]}>'


HTML = Html()
