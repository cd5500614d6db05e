"""Ratio to the baseline over batch and image size as a heat map, a panel a row, pass and setting:
what differs in more than these two shares no panel.
"""

import math

from swbench.formatting import ratio
from swbench.report.columns import PASSES, SPANS
from swbench.report.plots.style import figure, short, some, styled

MOST = 12
"""Panels in one figure."""

SHORT, NEW_LINE = 8, "\n"
"""A setting of more letters than these has a line of its own in the title."""

USUAL = {
    "{d}_mode": "eager",
    "dtype": "float32",
    "layout": "contiguous",
    "phase": "train",
}
"""Columns of a setting beside the device, and what is not named in a title where the whole table
has it.
"""


@styled
def scaling(table):
    """None unless some row was measured at two batches or two sizes at least."""
    if table.kind != "network":
        return None
    grids, named = {}, _differing(table)
    for row in table.rows:
        if row.role != "variant":
            continue
        for device in SPANS:
            for which, letters in PASSES.items():
                cell = row.cell(f"ratio_{device}_{which}")
                if cell.value is not None:
                    height = int(str(row.cell("image").value).partition("x")[0])
                    place = row.label, _setting(row, device, named), letters
                    grids.setdefault(place, {})[row.cell(f"{device}_batch").value, height] = (
                        cell.value
                    )
    grids = {name: grid for name, grid in grids.items() if len(grid) > 1}
    if not grids:
        return None
    shown = list(grids.items())[:MOST]
    across = min(2, len(shown))
    down = -(-len(shown) // across)
    made, axes = figure(
        down,
        across,
        width=3.5 * across + 0.8,
        height=2.5 * down + 0.6,
        title=some(table.title, len(shown), len(grids)),
    )
    reach = max(abs(math.log(value)) for _, grid in shown for value in grid.values()) or 1.0
    for axis, ((label, device, letters), grid) in zip(axes, shown, strict=False):
        batches, heights = (sorted({place[index] for place in grid}) for index in (0, 1))
        values = [
            [
                math.log(grid[batch, height]) if (batch, height) in grid else math.nan
                for height in heights
            ]
            for batch in batches
        ]
        image = axis.imshow(
            values, cmap="PuOr_r", vmin=-reach, vmax=reach, origin="lower", aspect="auto"
        )
        for y, batch in enumerate(batches):
            for x, height in enumerate(heights):
                text = ratio(grid[batch, height]) if (batch, height) in grid else "–"
                dark = (batch, height) in grid and abs(values[y][x]) > 0.6 * reach
                axis.text(
                    x,
                    y,
                    text,
                    ha="center",
                    va="center",
                    fontsize=8.5,
                    color="white" if dark else "black",
                )
        axis.set_xticks(range(len(heights)), [f"{height}²" for height in heights])
        axis.set_yticks(range(len(batches)), [str(batch) for batch in batches])
        axis.grid(False)
        gap, end = ", " if len(device) <= SHORT else NEW_LINE, ":" if "," in device else ""
        axis.set_title(f"{short(label, 26)}{gap}{device}{end} {letters}")
        axis.set_xlabel("image, pixels")
        axis.set_ylabel("batch")
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    bar = made.colorbar(image, ax=axes[: len(shown)], shrink=0.8, label="ratio to BN")
    marks = [-reach, -reach / 2, 0, reach / 2, reach]
    bar.set_ticks(marks, labels=[ratio(math.exp(mark)) for mark in marks])
    return made


def _differing(table):
    """The columns of `USUAL` that have several values in the table, or one that is not the
    usual.
    """
    found = {}
    for row in table.rows:
        for device in SPANS:
            if row.cell(f"{device}_batch").value is not None:
                for column in USUAL:
                    found.setdefault(column, set()).add(row.cell(column.format(d=device)).value)
    return [column for column, values in found.items() if values - {None} != {USUAL[column]}]


def _setting(row, device, named):
    """Device, mode, dtype, layout and processes of a row in words; rows that share a panel share
    all of them.
    """
    world, which = (
        row.cell(f"{device}_processes").value or 1,
        str(row.cell("gpu_device").value or "") if device == "gpu" else "",
    )
    words = [
        SPANS[device] + which.removeprefix("cuda"),
        *(str(row.cell(column.format(d=device)).value) for column in named),
    ]
    return ", ".join(words + ([f"{world} processes"] if world > 1 else []))
