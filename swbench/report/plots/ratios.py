"""Ratios to the baseline as bars that start at 1, with intervals, and the paper's ratios as
diamonds.
"""

from matplotlib.lines import Line2D

from swbench.report.columns import PASSES, SPANS
from swbench.report.plots.style import (
    ERROR,
    HATCHES,
    PALETTE,
    PAPER,
    device_title,
    error_bars,
    figure,
    logarithmic,
    shortened,
    styled,
    title_with_count,
)

LOG_ABOVE = 4.0
"""Ratio above which the axis is logarithmic: on a linear one a GPU's 50 would hide a CPU's 1.2."""

BAR = 0.36
MOST_PANELS = 6
"""Axes in one figure."""


@styled
def ratios(table):
    """A panel for each section and device with ratios; None for other tables."""
    if table.kind != "network":
        return None
    panels = []
    for section in table.sections:
        for device in SPANS:
            rows = [
                row
                for row in section.rows
                if row.role == "variant"
                and any(row.cell(f"ratio_{device}_{p}").value is not None for p in PASSES)
            ]
            if rows:
                panels.append((section, device, rows[:20]))
    if not panels:
        return None
    panel_count, panels = len(panels), panels[:MOST_PANELS]
    heights = [0.5 + 0.5 * len(rows) for _, _, rows in panels]
    fig, axes = figure(
        len(panels),
        1,
        width=6.6,
        height=0.9 + sum(heights) + 0.35 * len(panels),
        title=title_with_count(table.title, len(panels), panel_count),
        height_ratios=heights,
    )
    for axis, (section, device, rows) in zip(axes, panels, strict=True):
        _panel(axis, section, device, rows, table)
    return fig


def _panel(axis, section, device, rows, table):
    handles = []
    paper = False
    ends = [1.0]
    for place, (which, letters) in enumerate(PASSES.items()):
        at = [index + (place - 0.5) * (BAR + 0.04) for index in range(len(rows))]
        cells = [row.cell(f"ratio_{device}_{which}") for row in rows]
        known = [(y, cell) for y, cell in zip(at, cells, strict=True) if cell.value is not None]
        colour, hatch = PALETTE[place], HATCHES[place]
        if known:
            below, above = zip(*(error_bars(cell) for _, cell in known), strict=True)
            bars = axis.barh(
                [y for y, _ in known],
                [cell.value - 1 for _, cell in known],
                BAR,
                left=1,
                color=colour,
                alpha=0.85,
                hatch=hatch,
                edgecolor="white",
                xerr=[below, above],
                error_kw=ERROR,
                label=letters,
            )
            handles.append(bars)
        for y, cell in zip(at, cells, strict=True):
            if cell.value is None:
                axis.text(
                    1,
                    y,
                    f" {letters}: {cell.text(table.column(f'ratio_{device}_{which}'))}",
                    va="center",
                    fontsize=8,
                    color="#8a4b00",
                )
        ends += [end for _, cell in known for end in (cell.value, cell.low, cell.high) if end]
        for y, row in zip(at, rows, strict=True):
            mark = row.cell(f"paper_ratio_{device}_{which}")
            if mark.value is not None:
                axis.plot([mark.value], [y], **PAPER)
                ends.append(mark.value)
                paper = True
    if max(ends) > LOG_ABOVE or min(ends) < 1 / LOG_ABOVE:
        axis.set_xlim(min(ends) / 1.1, max(ends) * 1.15)
        logarithmic(axis, "x")
    else:
        margin = 0.04 * (max(ends) - min(ends)) + 0.005
        axis.set_xlim(min(ends) - margin, max(ends) + margin)
    axis.axvline(1, color="#333333", linewidth=1)
    axis.set_yticks(range(len(rows)), [_name(row) for row in rows])
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set_title(shortened(device_title(section.title, SPANS[device]), 90))
    axis.set_xlabel("time relative to BN, with interval (1 = the same time)")
    if paper:
        handles.append(Line2D([], [], label="paper", **PAPER))
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _name(row) -> str:
    layers = row.cell("layers").value
    return (
        shortened(row.label)
        if not layers or f"{layers} layers" in row.label
        else f"{shortened(row.label, 26)}, {layers}"
    )
