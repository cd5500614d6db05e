"""Seconds with the paper's figures, and the forward and backward parts of a training step."""

from matplotlib.lines import Line2D

from swbench.formatting import significant
from swbench.report.columns import PASSES, SPANS
from swbench.report.plots.ratios import MOST_PANELS
from swbench.report.plots.style import (
    ERROR,
    HATCHES,
    PALETTE,
    PAPER,
    device_title,
    error_bars,
    figure,
    shortened,
    styled,
)


def _panels(table):
    panels = []
    for section in table.sections if table.kind == "network" else ():
        for device in SPANS:
            rows = [
                row
                for row in section.rows
                if row.cell(f"{device}_f_s").value is not None
                or row.cell(f"{device}_fb_s").value is not None
            ]
            if rows:
                panels.append((section, device, rows[:20]))
    return panels[:MOST_PANELS]


@styled
def times(table):
    """Mean seconds of F and F+B for each row, with the interval of the mean; None where nothing was
    timed.
    """
    panels = _panels(table)
    if not panels:
        return None
    heights = [0.5 + 0.5 * len(rows) for _, _, rows in panels]
    fig, axes = figure(
        len(panels),
        1,
        width=6.6,
        height=0.9 + sum(heights) + 0.35 * len(panels),
        title=table.title,
        height_ratios=heights,
    )
    for axis, (section, device, rows) in zip(axes, panels, strict=True):
        handles, paper = [], False
        for place, (which, letters) in enumerate(PASSES.items()):
            name = f"{device}_{which}_s"
            known = [
                (index + (place - 0.5) * 0.4, row)
                for index, row in enumerate(rows)
                if row.cell(name).value is not None
            ]
            if known:
                below, above = zip(*(error_bars(row.cell(name)) for _, row in known), strict=True)
                values = [row.cell(name).value for _, row in known]
                colour, hatch = PALETTE[place], HATCHES[place]
                handles.append(
                    axis.barh(
                        [y for y, _ in known],
                        values,
                        0.36,
                        color=colour,
                        alpha=0.85,
                        hatch=hatch,
                        edgecolor="white",
                        xerr=[below, above],
                        error_kw=ERROR,
                        label=letters,
                    )
                )
            for index, row in enumerate(rows):
                mark = row.cell(f"paper_{name}")
                if mark.value is not None:
                    axis.plot([mark.value], [index + (place - 0.5) * 0.4], **PAPER)
                    paper = True
        if paper:
            handles.append(Line2D([], [], label="paper\n(its hardware)", **PAPER))
        _finish_axis(axis, rows, section, device, handles)
    return fig


@styled
def passes(table):
    """F and B = F+B - F stacked, with the share of F; None where no row has both."""
    panels = [
        (section, device, _rows_with_both_passes(device, rows))
        for section, device, rows in _panels(table)
        if _rows_with_both_passes(device, rows)
    ]
    if not panels:
        return None
    heights = [0.5 + 0.34 * len(rows) for _, _, rows in panels]
    fig, axes = figure(
        len(panels),
        1,
        width=6.6,
        height=0.9 + sum(heights) + 0.35 * len(panels),
        title=table.title,
        height_ratios=heights,
    )
    for axis, (section, device, rows) in zip(axes, panels, strict=True):
        forward_s = [row.cell(f"{device}_f_s").value for row in rows]
        both_s = [row.cell(f"{device}_fb_s").value for row in rows]
        backward_s = [fb_s - f_s for f_s, fb_s in zip(forward_s, both_s, strict=True)]
        style = {"height": 0.6, "edgecolor": "white", "alpha": 0.85}
        handles = [
            axis.barh(
                range(len(rows)), forward_s, color=PALETTE[0], hatch=HATCHES[0], label="F", **style
            ),
            axis.barh(
                range(len(rows)),
                backward_s,
                left=forward_s,
                color=PALETTE[1],
                hatch=HATCHES[1],
                label="B",
                **style,
            ),
        ]
        for index, (f_s, fb_s) in enumerate(zip(forward_s, both_s, strict=True)):
            axis.text(
                fb_s,
                index,
                f" {significant(fb_s, 3)} s, F {100 * f_s / fb_s:.0f} %",
                va="center",
                fontsize=8,
            )
        axis.set_xlim(0, 1.25 * max(both_s))
        _finish_axis(axis, rows, section, device, handles)
    return fig


def _rows_with_both_passes(device, rows):
    return [
        row
        for row in rows
        if row.cell(f"{device}_f_s").value is not None
        and row.cell(f"{device}_fb_s").value is not None
    ]


def _finish_axis(axis, rows, section, device, handles):
    axis.set_yticks(range(len(rows)), [shortened(row.label) for row in rows])
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set_title(shortened(device_title(section.title, SPANS[device]), 90))
    axis.set_xlabel("seconds")
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
