"""Tables for a terminal of a given width."""

from collections.abc import Iterable, Iterator, Sequence

from swbench.report.exporters import Exporter, Style
from swbench.report.exporters.grid import Grid, grids
from swbench.report.exporters.lines import fitting, fold, taken, widths
from swbench.report.safe import plain
from swbench.report.table import Cell, Row, Table

CODES = {
    "bold": "1",
    "dim": "2",
    "italic": "3",
    "underline": "4",
    "red": "31",
    "green": "32",
    "yellow": "33",
}


class Terminal(Exporter):
    """Aligned columns; a panel wider than the terminal is split, its row names repeated. Lines are
    written here, as rich needs 4 ms for each.
    """

    filename = "table.txt"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """All tables under each other."""
        paint = _coloured if style.colour else _uncoloured
        return (
            "\n".join(
                line.rstrip()
                for table in tables
                for line in _lines(table, max(40, style.width), paint)
            )
            + "\n"
        )


def _coloured(text: str, style: str) -> str:
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if style and text.strip() else text


def _uncoloured(text: str, style: str) -> str:
    return text


def _lines(table: Table, width: int, paint) -> Iterator[str]:
    yield from _paragraph(table.title, width, paint, "bold")
    for warning in table.warnings:
        yield from _paragraph(f"! {warning}", width, paint, "yellow")
    for section, found in grids(table, details=False):
        yield ""
        yield from _paragraph(section.title, width, paint, "underline")
        for position, grid in enumerate(found):
            if position:
                yield ""
            yield from _paragraph(grid.panel.title, width, paint, "italic")
            for part in fitting(grid, width):
                yield from _grid(part, width, paint)
        for note in section.notes:
            yield from _paragraph(note, width, paint, "")
    yield ""
    for note in table.notes:
        yield from _paragraph(note, width, paint, "dim")
    for name, text in table.footer:
        # a command is never broken: it is there to be copied
        yield from _paragraph(
            f"{name}: {text}", 10**6 if name == "Reproduce" else width, paint, "dim"
        )
    yield ""


def _paragraph(text: str, width: int, paint, style: str) -> Iterator[str]:
    return (paint(line, style) for line in fold(plain(text), width))


def _grid(grid: Grid, width: int, paint) -> Iterator[str]:
    sizes, right = widths(grid, width), [column.numeric for column in grid.columns]
    yield _row(
        [[column.header] for column in grid.columns], right, sizes, ["bold"] * len(sizes), paint
    )
    for (row, cells), texts in zip(grid.rows, grid.texts, strict=True):
        parts = [fold(plain(text), size) for text, size in zip(texts, sizes, strict=True)]
        styles = [_style(row, cell) for cell in cells]
        for line in range(max(len(part) for part in parts)):
            yield _row(
                [part[line : line + 1] or [""] for part in parts], right, sizes, styles, paint
            )


def _row(
    texts: Iterable[list[str]],
    right: Sequence[bool],
    sizes: Sequence[int],
    styles: Sequence[str],
    paint,
) -> str:
    shown = []
    for (text,), last, size, style in zip(texts, right, sizes, styles, strict=True):
        space = " " * (size - taken(text))
        shown.append(space + paint(text, style) if last else paint(text, style) + space)
    return "  ".join(shown)


def _style(row: Row, cell: Cell) -> str:
    if cell.value is None and cell.status:
        return "yellow"
    return {"slower": "red", "faster": "green"}.get(cell.verdict, "bold" if row.mark else "")


TERMINAL = Terminal()
