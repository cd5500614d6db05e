"""Tables for a terminal of a given width."""

import io
from collections.abc import Sequence

from swbench.report.exporters import Exporter, Style
from swbench.report.exporters.grid import Grid, grids
from swbench.report.safe import plain
from swbench.report.table import Table

GAP = 2
"""Characters between two columns."""

NAMES = ("label", "layers", "solver", "spectrum")
"""Columns that say which row this is; they stand in every part of a table that is split."""


class Terminal(Exporter):
    """Plain aligned columns; a panel wider than the terminal is split, its row names repeated."""

    filename = "table.txt"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """All tables under each other."""
        from rich.console import Console

        out = io.StringIO()
        console = Console(
            file=out,
            width=max(40, style.width),
            force_terminal=style.colour,
            color_system="standard" if style.colour else None,
            no_color=not style.colour,
            highlight=False,
            markup=False,
            emoji=False,
            legacy_windows=False,
        )
        for table in tables:
            _print(console, table)
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _print(console, table: Table) -> None:
    console.print(plain(table.title), style="bold")
    for warning in table.warnings:
        console.print(f"! {plain(warning)}", style="yellow")
    for section, found in grids(table, details=False):
        console.print()
        console.print(plain(section.title), style="underline")
        for grid in found:
            for index, part in enumerate(_fitting(grid, console.width)):
                console.print(_rich(part, title=not index))
        for note in section.notes:
            console.print(plain(note))
    console.print()
    for note in table.notes:
        console.print(plain(note), style="dim")
    for name, text in table.footer:
        console.print(f"{name}: {plain(text)}", style="dim", soft_wrap=name == "Reproduce")
    console.print()


def _fitting(grid: Grid, width: int) -> list[Grid]:
    """The grid itself, or where it does not fit, parts that do: CPU and GPU apart first, then fewer columns; the row's names stand in each."""
    if _natural_width(grid) <= width:
        return [grid]
    names = [column.name for column in grid.columns if column.name in NAMES]
    parts: list[list[str]] = []
    span = None
    for block in _blocks(grid):
        column = grid.columns[[column.name for column in grid.columns].index(block[0])]
        if parts and span in ("", column.span) and _natural_width(grid.only((*names, *parts[-1], *block))) <= width:
            parts[-1] += block
        else:
            parts.append(list(block))
        span = column.span
    return [grid.only((*names, *part)) for part in parts]


def _blocks(grid: Grid) -> list[list[str]]:
    """Columns that stay together: the paper's figure stands beside ours, what belongs to no device goes with what is before it."""
    found: list[list[str]] = []
    for column in grid.columns:
        if column.name in NAMES:
            continue
        if found and (column.header == "paper" or not column.span):
            found[-1].append(column.name)
        else:
            found.append([column.name])
    return found


def _natural_width(grid: Grid) -> int:
    lines = [[column.header for column in grid.columns], *grid.texts()]
    return sum(max(len(line[index]) for line in lines) + GAP for index in range(len(grid.columns)))


def _rich(grid: Grid, *, title: bool):
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        title=plain(grid.panel.title) if title else None, title_justify="left", title_style="italic", box=None, padding=(0, GAP, 0, 0), pad_edge=False
    )
    for column in grid.columns:
        shown.add_column(Text(column.header, style="bold"), justify="right" if column.numeric else "left", overflow="fold")
    for (row, cells), texts in zip(grid.rows, grid.texts(), strict=True):
        styles = [_style(row, cell.value is None and bool(cell.status), cell.verdict) for cell in cells]
        shown.add_row(*(Text(plain(text), style=style) for text, style in zip(texts, styles, strict=True)))
    return shown


def _style(row, failed: bool, verdict: str) -> str:
    if failed:
        return "yellow"
    if row.mark == "★":
        return "bold"
    return {"slower": "red", "faster": "green"}.get(verdict, "")


TERMINAL = Terminal()
