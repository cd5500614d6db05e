"""Absolute seconds with the paper's figures, and how a training step splits into its forward and
its backward pass.
"""

from matplotlib.lines import Line2D

from swbench.formatting import significant
from swbench.report.columns import PASSES, SPANS
from swbench.report.plots.ratios import MOST
from swbench.report.plots.style import (
    ERROR,
    HATCHES,
    PALETTE,
    PAPER,
    figure,
    short,
    spread,
    styled,
    where,
)


def _panels(table):
    found = []
    for section in table.sections if table.kind == "network" else ():
        for device in SPANS:
            rows = [
                row
                for row in section.rows
                if row.cell(f"{device}_f_s").value is not None
                or row.cell(f"{device}_fb_s").value is not None
            ]
            if rows:
                found.append((section, device, rows[:20]))
    return found[:MOST]


@styled
def times(table):
    """Mean seconds of F and F+B a row with the interval of the mean; None where nothing was
    timed.
    """
    panels = _panels(table)
    if not panels:
        return None
    heights = [0.5 + 0.5 * len(rows) for _, _, rows in panels]
    made, axes = figure(
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
                below, above = zip(*(spread(row.cell(name)) for _, row in known), strict=True)
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
        _dress(axis, rows, section, device, handles)
    return made


@styled
def passes(table):
    """F and B = F+B - F stacked, with the share of F; None where no row has both."""
    panels = [
        (section, device, _both(device, rows))
        for section, device, rows in _panels(table)
        if _both(device, rows)
    ]
    if not panels:
        return None
    heights = [0.5 + 0.34 * len(rows) for _, _, rows in panels]
    made, axes = figure(
        len(panels),
        1,
        width=6.6,
        height=0.9 + sum(heights) + 0.35 * len(panels),
        title=table.title,
        height_ratios=heights,
    )
    for axis, (section, device, rows) in zip(axes, panels, strict=True):
        forward = [row.cell(f"{device}_f_s").value for row in rows]
        whole = [row.cell(f"{device}_fb_s").value for row in rows]
        backward = [both - first for first, both in zip(forward, whole, strict=True)]
        style = {"height": 0.6, "edgecolor": "white", "alpha": 0.85}
        handles = [
            axis.barh(
                range(len(rows)), forward, color=PALETTE[0], hatch=HATCHES[0], label="F", **style
            ),
            axis.barh(
                range(len(rows)),
                backward,
                left=forward,
                color=PALETTE[1],
                hatch=HATCHES[1],
                label="B",
                **style,
            ),
        ]
        for index, (first, both) in enumerate(zip(forward, whole, strict=True)):
            axis.text(
                both,
                index,
                f" {significant(both, 3)} s, F {100 * first / both:.0f} %",
                va="center",
                fontsize=8,
            )
        axis.set_xlim(0, 1.25 * max(whole))
        _dress(axis, rows, section, device, handles)
    return made


def _both(device, rows):
    return [
        row
        for row in rows
        if row.cell(f"{device}_f_s").value is not None
        and row.cell(f"{device}_fb_s").value is not None
    ]


def _dress(axis, rows, section, device, handles):
    axis.set_yticks(range(len(rows)), [short(row.label) for row in rows])
    axis.invert_yaxis()
    axis.grid(False, axis="y")
    axis.set_title(short(where(section.title, SPANS[device]), 90))
    axis.set_xlabel("seconds")
    axis.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
