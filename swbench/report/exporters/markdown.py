"""Tables in Markdown (the GitHub flavour): the supplement's layout, with ratios and sources
below.
"""

from collections.abc import Iterator, Sequence

from swbench.report.escaping import markdown, plain
from swbench.report.exporters import Exporter, Style
from swbench.report.exporters.grid import Grid, grids
from swbench.report.heat_map import heat_maps
from swbench.report.table import Table


class Markdown(Exporter):
    """Headings, pipe tables, a quotation for warnings."""

    filename = "table.md"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """All tables under each other."""
        return "\n".join(line for table in tables for line in _lines(table))


def _lines(table: Table) -> Iterator[str]:
    yield from (f"## {markdown(table.title)}", "")
    if summary := table.meta.get("summary"):
        yield from (f"**{markdown(summary)}**", "")
    yield from (f"> **{markdown(warning)}**  " for warning in table.warnings)
    if table.warnings:
        yield ""
    yield from _heat_maps(table)
    short_table = table.without_minor_rows
    if short_table is None:
        yield from _sections(table)
    else:
        yield from _sections(short_table)
        # GitHub folds this, and needs an empty line before Markdown
        yield from ("<details>", f"<summary>All {len(table.rows)} rows</summary>", "")
        yield from _sections(table)
        yield from ("</details>", "")
    for note in table.notes:
        yield f"- {markdown(note)}"
    for name, text in table.footer:
        yield f"- {name}: {_code(text) if name == 'Reproduce' else markdown(text)}"
    yield ""


def _heat_maps(table: Table) -> Iterator[str]:
    """The heat maps of a run: a table for each pass, with settings as rows."""
    for heat_map in heat_maps(table):
        yield from (
            f"**{markdown(heat_map.title)}, ratio to the baseline of the same setting**",
            "",
        )
        yield _line(["", *map(markdown, heat_map.rows)])
        yield "|" + "|".join([" --- ", *(" ---: " for _ in heat_map.rows)]) + "|"
        for setting in heat_map.settings:
            cells = (" ".join(heat_map.texts(row, setting)) for row in heat_map.rows)
            yield _line([markdown(setting), *cells])
        yield ""


def _sections(table: Table) -> Iterator[str]:
    for section, section_grids in grids(table, details=True):
        yield from (f"### {markdown(section.title)}", "")
        for grid in section_grids:
            yield from (f"**{markdown(grid.panel.title)}**", "")
            yield from _pipe_table(grid)
            yield ""
        for note in section.notes:
            yield from (markdown(note), "")


def _pipe_table(grid: Grid) -> Iterator[str]:
    yield _line(markdown(column.header) for column in grid.columns)
    yield "|" + "|".join(" ---: " if column.numeric else " --- " for column in grid.columns) + "|"
    for texts in grid.texts:
        yield _line(_cell(text, column) for text, column in zip(texts, grid.columns, strict=True))


def _cell(text: str, column) -> str:
    """Numbers come from this program and need no escapes, which would make the source hard to
    read.
    """
    return text if column.numeric else markdown(text)


def _line(texts) -> str:
    return "| " + " | ".join(texts) + " |"


def _code(text: str) -> str:
    visible = plain(text)
    fence = "`" * (1 + max((len(run) for run in _runs(visible)), default=0))
    return f"{fence} {visible} {fence}" if "`" in visible else f"`{visible}`"


def _runs(text: str) -> list[str]:
    runs = [""]
    for character in text:
        if character == "`":
            runs[-1] += character
        elif runs[-1]:
            runs.append("")
    return [run for run in runs if run]


MARKDOWN = Markdown()
