"""Ratio to the baseline over batch and image size as heat maps: a panel for each row, pass and
setting.
"""

import math

from swbench.formatting import ratio
from swbench.report.columns import PASSES, SPANS
from swbench.report.plots.style import figure, shortened, styled, title_with_count

MOST_PANELS = 12
"""Panels in one figure."""

SHORT, NEW_LINE = 8, "\n"
"""A setting with more characters than these has a line of its own in the title."""

USUAL = {
    "{d}_mode": "eager",
    "dtype": "float32",
    "layout": "contiguous",
    "phase": "train",
}
"""Columns of a setting besides the device, with the values that a title does not name where the
full table has them.
"""


@styled
def scaling(table):
    """None unless some row was measured at two or more batches or image sizes."""
    if table.kind != "network":
        return None
    grids, named_columns = {}, _differing(table)
    for row in table.rows:
        if row.role != "variant":
            continue
        for device in SPANS:
            for which, letters in PASSES.items():
                cell = row.cell(f"ratio_{device}_{which}")
                if cell.value is not None:
                    height = int(str(row.cell("image").value).partition("x")[0])
                    panel_key = row.label, _setting(row, device, named_columns), letters
                    grids.setdefault(panel_key, {})[row.cell(f"{device}_batch").value, height] = (
                        cell.value
                    )
    grids = {name: grid for name, grid in grids.items() if len(grid) > 1}
    if not grids:
        return None
    drawn_panels = list(grids.items())[:MOST_PANELS]
    across = min(2, len(drawn_panels))
    down = -(-len(drawn_panels) // across)
    fig, axes = figure(
        down,
        across,
        width=3.5 * across + 0.8,
        height=2.5 * down + 0.6,
        title=title_with_count(table.title, len(drawn_panels), len(grids)),
    )
    largest_distance = (
        max(abs(math.log(value)) for _, grid in drawn_panels for value in grid.values()) or 1.0
    )
    for axis, ((label, device, letters), grid) in zip(axes, drawn_panels, strict=False):
        batches, heights = (sorted({sizes[index] for sizes in grid}) for index in (0, 1))
        values = [
            [
                math.log(grid[batch, height]) if (batch, height) in grid else math.nan
                for height in heights
            ]
            for batch in batches
        ]
        image = axis.imshow(
            values,
            cmap="PuOr_r",
            vmin=-largest_distance,
            vmax=largest_distance,
            origin="lower",
            aspect="auto",
        )
        for y, batch in enumerate(batches):
            for x, height in enumerate(heights):
                text = ratio(grid[batch, height]) if (batch, height) in grid else "–"
                dark = (batch, height) in grid and abs(values[y][x]) > 0.6 * largest_distance
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
        axis.set_title(f"{shortened(label, 26)}{gap}{device}{end} {letters}")
        axis.set_xlabel("image, pixels")
        axis.set_ylabel("batch")
    for axis in axes[len(drawn_panels) :]:
        axis.set_visible(False)
    bar = fig.colorbar(image, ax=axes[: len(drawn_panels)], shrink=0.8, label="ratio to BN")
    marks = [-largest_distance, -largest_distance / 2, 0, largest_distance / 2, largest_distance]
    bar.set_ticks(marks, labels=[ratio(math.exp(mark)) for mark in marks])
    return fig


def _differing(table):
    """The columns of `USUAL` with several values in the table, or with an unusual one."""
    values_by_column = {}
    for row in table.rows:
        for device in SPANS:
            if row.cell(f"{device}_batch").value is not None:
                for column in USUAL:
                    values_by_column.setdefault(column, set()).add(
                        row.cell(column.format(d=device)).value
                    )
    return [
        column for column, values in values_by_column.items() if values - {None} != {USUAL[column]}
    ]


def _setting(row, device, named_columns):
    """Device, mode, dtype, layout and processes of a row in words; rows that share a panel share
    all of them.
    """
    world, which = (
        row.cell(f"{device}_processes").value or 1,
        str(row.cell("gpu_device").value or "") if device == "gpu" else "",
    )
    words = [
        SPANS[device] + which.removeprefix("cuda"),
        *(str(row.cell(column.format(d=device)).value) for column in named_columns),
    ]
    return ", ".join(words + ([f"{world} processes"] if world > 1 else []))
