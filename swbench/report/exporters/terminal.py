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


COLUMN_GAP = 2
"""Characters between two columns."""

LEAST_TEXT_WIDTH = 12
"""Least width in characters of a folded column of text."""

ROW_NAME_COLUMNS = ("label", "layers", "solver", "spectrum")
"""Columns that identify a row; every part of a split table repeats them."""

SEPARATE_SPANS = ("CPU", "GPU")
"""Spans that do not share a part of a split table."""


class Terminal(Exporter):
    """Aligned columns. A panel wider than the terminal is split, with its row names repeated. rich
    does not write the lines, because it takes 4 ms for each.
    """

    filename = "table.txt"

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """All tables under each other."""
        colourise = _coloured if style.colour else _uncoloured
        return (
            "\n".join(
                line.rstrip()
                for table in tables
                for line in _lines(table, max(40, style.width), colourise)
            )
            + "\n"
        )


def _coloured(text: str, style: str) -> str:
    return f"\x1b[{CODES[style]}m{text}\x1b[0m" if style and text.strip() else text


def _uncoloured(text: str, style: str) -> str:
    return text


def _lines(table: Table, width: int, colourise) -> Iterator[str]:
    yield from _paragraph(table.title, width, colourise, "bold")
    for warning in table.warnings:
        yield from _paragraph(f"! {warning}", width, colourise, "yellow")
    for section, section_grids in grids(table, details=False):
        yield ""
        yield from _paragraph(section.title, width, colourise, "underline")
        for position, grid in enumerate(section_grids):
            if position:
                yield ""
            yield from _paragraph(grid.panel.title, width, colourise, "italic")
            for part in _split_to_width(grid, width):
                yield from _grid(part, width, colourise)
        for note in section.notes:
            yield from _paragraph(note, width, colourise, "")
    yield ""
    for note in table.notes:
        yield from _paragraph(note, width, colourise, "dim")
    for name, text in table.footer:
        # a command is never broken, so that it can be copied
        yield from _paragraph(
            f"{name}: {text}", 10**6 if name == "Reproduce" else width, colourise, "dim"
        )
    yield ""


def _paragraph(text: str, width: int, colourise, style: str) -> Iterator[str]:
    return (colourise(line, style) for line in _fold(plain(text), width))


def _grid(grid: Grid, width: int, colourise) -> Iterator[str]:
    sizes, right = _widths(grid, width), [column.numeric for column in grid.columns]
    yield _row(
        [[column.header] for column in grid.columns], right, sizes, ["bold"] * len(sizes), colourise
    )
    for (row, cells), texts in zip(grid.rows, grid.texts, strict=True):
        parts = [_fold(plain(text), size) for text, size in zip(texts, sizes, strict=True)]
        styles = [_style(row, cell) for cell in cells]
        for line in range(max(len(part) for part in parts)):
            yield _row(
                [part[line : line + 1] or [""] for part in parts], right, sizes, styles, colourise
            )


def _row(
    texts: Iterable[list[str]],
    right: Sequence[bool],
    sizes: Sequence[int],
    styles: Sequence[str],
    colourise,
) -> str:
    fields = []
    for (text,), right_aligned, size, style in zip(texts, right, sizes, styles, strict=True):
        space = " " * (size - _text_width(text))
        fields.append(
            space + colourise(text, style) if right_aligned else colourise(text, style) + space
        )
    return "  ".join(fields)


def _style(row: Row, cell: Cell) -> str:
    if cell.value is None and cell.status:
        return "yellow"
    return {"slower": "red", "faster": "green"}.get(cell.verdict, "bold" if row.mark else "")


def _text_width(text: str) -> int:
    """The width of `text` in a terminal's characters. For ASCII, which nearly all texts are, it is
    the length.
    """
    return len(text) if text.isascii() else cell_len(text)


def _fold(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters, broken at spaces where possible; at least one
    line.
    """
    if _text_width(text) <= width:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        while _text_width(word) > width:
            space = width - _text_width(line) - 1 if line else width
            head = _fitting_prefix(word, space) if space > 0 else ""
            lines.append(f"{line} {head}" if line else head)
            line, word = "", word[len(head) :]
        if line and _text_width(line) + 1 + _text_width(word) > width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line] if line or not lines else lines


def _fitting_prefix(word: str, width: int) -> str:
    """The longest prefix of `word` of at most `width` characters' width, but at least one
    character.
    """
    end, used = 0, 0
    while end < len(word) and (used := used + _text_width(word[end])) <= width:
        end += 1
    return word[: max(1, end)]


def _natural_widths(grid: Grid) -> list[int]:
    """The width of each column's longest text."""
    lines = [[column.header for column in grid.columns], *grid.texts]
    return [max(_text_width(line[index]) for line in lines) for index in range(len(grid.columns))]


def _widths(grid: Grid, width: int) -> list[int]:
    """The width of each column in a terminal of `width`. Where they do not fit, the widest columns
    of text get narrower.
    """
    widths = _natural_widths(grid)
    while sum(widths) + COLUMN_GAP * (len(widths) - 1) > width:
        texts = [
            index
            for index, column in enumerate(grid.columns)
            if not column.numeric and widths[index] > LEAST_TEXT_WIDTH
        ]
        if not texts:
            break
        widest = max(texts, key=lambda index: widths[index])
        widths[widest] = max(
            LEAST_TEXT_WIDTH,
            widths[widest] - (sum(widths) + COLUMN_GAP * (len(widths) - 1) - width),
        )
    return widths


def _split_to_width(grid: Grid, width: int) -> list[Grid]:
    """The grid itself, or parts that fit `width`: CPU and GPU in different parts first, then fewer
    columns. Each part has the columns that identify rows.
    """
    sizes = dict(zip((column.name for column in grid.columns), _natural_widths(grid), strict=True))
    if sum(sizes.values()) + COLUMN_GAP * (len(sizes) - 1) <= width:
        return [grid]
    names = [column.name for column in grid.columns if column.name in ROW_NAME_COLUMNS]
    spans = {
        column.name: column.span if column.span in SEPARATE_SPANS else "" for column in grid.columns
    }
    parts: list[list[str]] = []
    span = ""
    for block in _blocks(grid):
        joined = [*names, *parts[-1], *block] if parts else []
        if (
            parts
            and (not span or not spans[block[0]] or span == spans[block[0]])
            and sum(sizes[name] + COLUMN_GAP for name in joined) - COLUMN_GAP <= width
        ):
            parts[-1] += block
        else:
            parts.append(list(block))
        span = spans[block[0]] or span
    return [grid.with_columns((*names, *part)) for part in parts]


def _blocks(grid: Grid) -> list[list[str]]:
    """Columns that must stay together: the paper's figure stands beside ours."""
    blocks: list[list[str]] = []
    for column in grid.columns:
        if column.name in ROW_NAME_COLUMNS:
            continue
        if blocks and column.header == "paper":
            blocks[-1].append(column.name)
        else:
            blocks.append([column.name])
    return blocks


TERMINAL = Terminal()
