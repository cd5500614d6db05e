"""Fitting tables and paragraphs into a number of characters."""

from rich.cells import cell_len

from swbench.report.exporters.grid import Grid

GAP = 2
"""Characters between two columns."""

NARROWEST = 12
"""A column of text is folded to no less than this."""

NAMES = ("label", "layers", "solver", "spectrum")
"""Columns that say which row this is; they stand in every part of a table that is split."""

APART = ("CPU", "GPU")
"""Spans that are not mixed in one part."""


def taken(text: str) -> int:
    """The characters of a terminal that `text` takes. Nearly all texts are ASCII, where that is
    their length.
    """
    return len(text) if text.isascii() else cell_len(text)


def fold(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` characters, broken at spaces where there are any; at least
    one line.
    """
    if taken(text) <= width:
        return [text]
    lines, line = [], ""
    for word in text.split(" "):
        while taken(word) > width:
            room = width - taken(line) - 1 if line else width
            head = _head(word, room) if room > 0 else ""
            lines.append(f"{line} {head}" if line else head)
            line, word = "", word[len(head) :]
        if line and taken(line) + 1 + taken(word) > width:
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
    while end < len(word) and (used := used + taken(word[end])) <= width:
        end += 1
    return word[: max(1, end)]


def natural(grid: Grid) -> list[int]:
    """The width that each column would like."""
    lines = [[column.header for column in grid.columns], *grid.texts]
    return [max(taken(line[index]) for line in lines) for index in range(len(grid.columns))]


def widths(grid: Grid, width: int) -> list[int]:
    """The width of each column in a terminal of `width`: where they do not fit, the widest columns
    of text give way.
    """
    found = natural(grid)
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


def fitting(grid: Grid, width: int) -> list[Grid]:
    """The grid itself, or where it does not fit, parts that do: CPU and GPU apart first, then fewer
    columns; the row's names stand in each.
    """
    sizes = dict(zip((column.name for column in grid.columns), natural(grid), strict=True))
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
