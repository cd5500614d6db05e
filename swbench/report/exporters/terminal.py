"""Tables for a terminal of a given width."""

from collections.abc import Iterable, Iterator, Sequence

from rich.cells import cell_len

from swbench.report.escaping import plain
from swbench.report.exporters import Exporter, Style
from swbench.report.exporters.grid import Grid, grids
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


GAP = 2
"""Characters between two columns."""

NARROWEST = 12
"""A column of text is folded to no less than this."""

NAMES = ("label", "layers", "solver", "spectrum")
"""Columns that say which row this is; they stand in every part of a table that is split."""

APART = ("CPU", "GPU")
"""Spans that are not mixed in one part."""


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
            for part in _fitting(grid, width):
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
    return (paint(line, style) for line in _fold(plain(text), width))


def _grid(grid: Grid, width: int, paint) -> Iterator[str]:
    sizes, right = _widths(grid, width), [column.numeric for column in grid.columns]
    yield _row(
        [[column.header] for column in grid.columns], right, sizes, ["bold"] * len(sizes), paint
    )
    for (row, cells), texts in zip(grid.rows, grid.texts, strict=True):
        parts = [_fold(plain(text), size) for text, size in zip(texts, sizes, strict=True)]
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
        space = " " * (size - _taken(text))
        shown.append(space + paint(text, style) if last else paint(text, style) + space)
    return "  ".join(shown)


def _style(row: Row, cell: Cell) -> str:
    if cell.value is None and cell.status:
        return "yellow"
    return {"slower": "red", "faster": "green"}.get(cell.verdict, "bold" if row.mark else "")


def _taken(text: str) -> int:
    """The characters of a terminal that `text` takes. Nearly all texts are ASCII, where that is
    their length.
    """
    return len(text) if text.isascii() else cell_len(text)


def _fold(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters, broken at spaces where there are any; at least
    one line.
    """
    if _taken(text) <= width:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        while _taken(word) > width:
            room = width - _taken(line) - 1 if line else width
            head = _head(word, room) if room > 0 else ""
            lines.append(f"{line} {head}" if line else head)
            line, word = "", word[len(head) :]
        if line and _taken(line) + 1 + _taken(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line] if line or not lines else lines


def _head(word: str, width: int) -> str:
    """The longest beginning of `word` that takes at most `width` cells, but at least one
    character.
    """
    end, used = 0, 0
    while end < len(word) and (used := used + _taken(word[end])) <= width:
        end += 1
    return word[: max(1, end)]


def _natural(grid: Grid) -> list[int]:
    """The width that each column would like."""
    lines = [[column.header for column in grid.columns], *grid.texts]
    return [max(_taken(line[index]) for line in lines) for index in range(len(grid.columns))]


def _widths(grid: Grid, width: int) -> list[int]:
    """The width of each column in a terminal of `width`: where they do not fit, the widest columns
    of text give way.
    """
    found = _natural(grid)
    while sum(found) + GAP * (len(found) - 1) > width:
        texts = [
            index
            for index, column in enumerate(grid.columns)
            if not column.numeric and found[index] > NARROWEST
        ]
        if not texts:
            break
        widest = max(texts, key=lambda index: found[index])
        found[widest] = max(
            NARROWEST, found[widest] - (sum(found) + GAP * (len(found) - 1) - width)
        )
    return found


def _fitting(grid: Grid, width: int) -> list[Grid]:
    """The grid itself, or where it does not fit, parts that do: CPU and GPU apart first, then fewer
    columns; the row's names stand in each.
    """
    sizes = dict(zip((column.name for column in grid.columns), _natural(grid), strict=True))
    if sum(sizes.values()) + GAP * (len(sizes) - 1) <= width:
        return [grid]
    names = [column.name for column in grid.columns if column.name in NAMES]
    spans = {column.name: column.span if column.span in APART else "" for column in grid.columns}
    parts: list[list[str]] = []
    span = ""
    for block in _blocks(grid):
        together = [*names, *parts[-1], *block] if parts else []
        if (
            parts
            and (not span or not spans[block[0]] or span == spans[block[0]])
            and sum(sizes[name] + GAP for name in together) - GAP <= width
        ):
            parts[-1] += block
        else:
            parts.append(list(block))
        span = spans[block[0]] or span
    return [grid.only((*names, *part)) for part in parts]


def _blocks(grid: Grid) -> list[list[str]]:
    """Columns that stay together: the paper's figure stands beside ours."""
    found: list[list[str]] = []
    for column in grid.columns:
        if column.name in NAMES:
            continue
        if found and column.header == "paper":
            found[-1].append(column.name)
        else:
            found.append([column.name])
    return found


TERMINAL = Terminal()
