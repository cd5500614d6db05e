"""Ratio to the baseline in every setting of a run (dtype, layout, mode, phase) as heat maps: a
panel for each pass, and one for peak memory.
"""

import math

from swbench.formatting import ratio
from swbench.report.heat_map import heat_maps, largest_distance
from swbench.report.plots.style import figure, shortened, styled

MOST_SETTINGS = 24
"""Largest number of settings in a panel; tables show the rest."""


@styled
def settings(table):
    """None unless the run has settings that differ in dtype, layout, mode or phase."""
    maps = heat_maps(table)
    if not maps:
        return None
    heights = [0.42 * min(MOST_SETTINGS, len(heat_map.settings)) for heat_map in maps]
    fig, axes = figure(
        len(maps),
        1,
        width=3.6 + 1.15 * max(len(heat_map.rows) for heat_map in maps),
        height=0.6 + sum(heights) + 1.1 * len(maps),
        title=table.title,
        height_ratios=heights,
    )
    span = largest_distance(maps)
    for axis, heat_map in zip(axes, maps, strict=True):
        image = _panel(axis, heat_map, span)
    bar = fig.colorbar(image, ax=axes, shrink=0.6, label="ratio to BN of the same setting")
    marks = [-span, -span / 2, 0, span / 2, span]
    bar.set_ticks(marks, labels=[ratio(math.exp(mark)) for mark in marks])
    return fig


def _panel(axis, heat_map, span):
    lines = heat_map.settings[:MOST_SETTINGS]
    grid = [[heat_map.cell(row, setting) for row in heat_map.rows] for setting in lines]
    values = [[math.nan if c.value is None else math.log(c.value) for c in line] for line in grid]
    image = axis.imshow(values, cmap="PuOr_r", vmin=-span, vmax=span, aspect="auto")
    for y, line in enumerate(grid):
        for x, cell in enumerate(line):
            dark = cell.value is not None and abs(values[y][x]) > 0.6 * span
            axis.text(
                x,
                y,
                "\n".join(heat_map.texts(heat_map.rows[x], lines[y])),
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
    axis.set_xticks(
        range(len(heat_map.rows)), [shortened(row, 20) for row in heat_map.rows], rotation=25
    )
    for label in axis.get_xticklabels():
        label.set_horizontalalignment("right")
    axis.set_yticks(range(len(lines)), [shortened(line, 40) for line in lines])
    axis.grid(False)
    left = len(heat_map.settings) - len(lines)
    axis.set_title(heat_map.title + (f" (first {len(lines)} settings)" if left else ""))
    return image
