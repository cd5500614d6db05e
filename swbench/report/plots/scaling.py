"""Ratio to the baseline over batch and image size as a heat map, a panel a row and pass."""

import math

from swbench.report.columns import PASSES, SPANS
from swbench.report.numbers import ratio
from swbench.report.plots.style import figure, short, styled

MOST = 8


@styled
def scaling(table):
    """None unless some row was measured at two batches or two sizes at least."""
    if table.kind != "network":
        return None
    grids = {}
    for row in table.rows:
        if row.role != "variant":
            continue
        for device in SPANS:
            for which, letters in PASSES.items():
                cell = row.cell(f"ratio_{device}_{which}")
                if cell.value is not None:
                    height = int(str(row.cell("image").value).partition("x")[0])
                    world = row.cell(f"{device}_processes").value or 1
                    where = f"{SPANS[device]}{f', {world} processes' if world > 1 else ''}"
                    grids.setdefault((row.label, where, letters), {})[row.cell(f"{device}_batch").value, height] = cell.value
    grids = {name: grid for name, grid in grids.items() if len(grid) > 1}
    if not grids:
        return None
    shown = list(grids.items())[:MOST]
    across = min(2, len(shown))
    down = -(-len(shown) // across)
    made, axes = figure(down, across, width=3.5 * across + 0.8, height=2.5 * down + 0.6, title=table.title)
    reach = max(abs(math.log(value)) for _, grid in shown for value in grid.values()) or 1.0
    for axis, ((label, device, letters), grid) in zip(axes, shown, strict=False):
        batches, heights = (sorted({place[index] for place in grid}) for index in (0, 1))
        values = [[math.log(grid[batch, height]) if (batch, height) in grid else math.nan for height in heights] for batch in batches]
        image = axis.imshow(values, cmap="PuOr_r", vmin=-reach, vmax=reach, origin="lower", aspect="auto")
        for y, batch in enumerate(batches):
            for x, height in enumerate(heights):
                text = ratio(grid[batch, height]) if (batch, height) in grid else "–"
                dark = (batch, height) in grid and abs(values[y][x]) > 0.6 * reach
                axis.text(x, y, text, ha="center", va="center", fontsize=8.5, color="white" if dark else "black")
        axis.set_xticks(range(len(heights)), [f"{height}²" for height in heights])
        axis.set_yticks(range(len(batches)), [str(batch) for batch in batches])
        axis.grid(False)
        axis.set_title(f"{short(label, 26)}, {device} {letters}")
        axis.set_xlabel("image, pixels")
        axis.set_ylabel("batch")
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    bar = made.colorbar(image, ax=axes[: len(shown)], shrink=0.8, label="ratio to BN")
    marks = [-reach, -reach / 2, 0, reach / 2, reach]
    bar.set_ticks(marks, labels=[ratio(math.exp(mark)) for mark in marks])
    return made
