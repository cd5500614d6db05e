"""Ratio to the baseline in every setting of a run (dtype, layout, mode, phase) as heat maps: a
panel a pass, and one for peak memory.
"""

import math

from swbench.formatting import ratio
from swbench.report.heat_map import heat_maps, reach
from swbench.report.plots.style import figure, short, styled

MOST_SETTINGS = 24
"""Lines in one panel; the full grid of a suite has more, and its tables say the rest."""


@styled
def settings(table):
    """None unless the run has settings that differ in dtype, layout, mode or phase."""
    maps = heat_maps(table)
    if not maps:
        return None
    heights = [0.42 * min(MOST_SETTINGS, len(one.settings)) for one in maps]
    made, axes = figure(
        len(maps),
        1,
        width=3.6 + 1.15 * max(len(one.rows) for one in maps),
        height=0.6 + sum(heights) + 1.1 * len(maps),
        title=table.title,
        height_ratios=heights,
    )
    span = reach(maps)
    for axis, one in zip(axes, maps, strict=True):
        image = _panel(axis, one, span)
    bar = made.colorbar(image, ax=axes, shrink=0.6, label="ratio to BN of the same setting")
    marks = [-span, -span / 2, 0, span / 2, span]
    bar.set_ticks(marks, labels=[ratio(math.exp(mark)) for mark in marks])
    return made


def _panel(axis, one, span):
    lines = one.settings[:MOST_SETTINGS]
    grid = [[one.cell(row, setting) for row in one.rows] for setting in lines]
    values = [[math.nan if c.value is None else math.log(c.value) for c in line] for line in grid]
    image = axis.imshow(values, cmap="PuOr_r", vmin=-span, vmax=span, aspect="auto")
    for y, line in enumerate(grid):
        for x, cell in enumerate(line):
            dark = cell.value is not None and abs(values[y][x]) > 0.6 * span
            axis.text(
                x,
                y,
                "\n".join(one.texts(one.rows[x], lines[y])),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    axis.set_xticks(range(len(one.rows)), [short(row, 20) for row in one.rows], rotation=25)
    for label in axis.get_xticklabels():
        label.set_horizontalalignment("right")
    axis.set_yticks(range(len(lines)), [short(line, 40) for line in lines])
    axis.grid(False)
    left = len(one.settings) - len(lines)
    axis.set_title(one.title + (f" (first {len(lines)} settings)" if left else ""))
    return image
