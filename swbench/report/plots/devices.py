"""Images a second over the number of processes: a panel for each device and kind of scaling, a line
for each row, and perfect scaling.
"""

from matplotlib.ticker import NullLocator

from swbench.report.columns import SPANS
from swbench.report.plots.style import (
    LINES,
    MARKERS,
    PALETTE,
    figure,
    logarithmic,
    shortened,
    styled,
)

MOST_PANELS = 6
"""Panels."""


@styled
def devices(table):
    """None unless some row was measured with at least two numbers of processes, at the same batch
    in all or the same batch for each.
    """
    if table.kind != "network":
        return None
    panels = _panels(table)
    if not panels:
        return None
    drawn_panels = list(panels.items())[:MOST_PANELS]
    across = min(2, len(drawn_panels))
    fig, axes = figure(
        -(-len(drawn_panels) // across),
        across,
        width=4.0 * across,
        height=2.9 * -(-len(drawn_panels) // across) + 0.4,
        title=table.title,
    )
    for axis, ((device, title), rows) in zip(axes, drawn_panels, strict=False):
        for place, (label, rates) in enumerate(rows.items()):
            worlds = sorted(rates)
            style = {
                "color": PALETTE[place % len(PALETTE)],
                "marker": MARKERS[place % len(MARKERS)],
                "linestyle": LINES[place % len(LINES)],
            }
            axis.plot(
                worlds,
                [rates[world] for world in worlds],
                label=shortened(label, 26),
                markersize=5,
                linewidth=1.3,
                **style,
            )
        worlds, first = (
            sorted({world for rates in rows.values() for world in rates}),
            next(iter(rows.values())),
        )
        start = min(first)
        axis.plot(
            worlds,
            [first[start] * world / start for world in worlds],
            color="#999999",
            linewidth=1,
            linestyle=":",
            label="perfect",
        )
        logarithmic(axis, "x", "y")
        axis.set_xticks(worlds, [str(world) for world in worlds])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_title(f"{device}, {title}")
        axis.set_xlabel("processes")
        axis.set_ylabel("images a second, F+B")
        axis.legend()
    for axis in axes[len(drawn_panels) :]:
        axis.set_visible(False)
    return fig


def _panels(table) -> dict[tuple[str, str], dict[str, dict[int, float]]]:
    """(device, scaling) -> row -> processes -> images a second; only rows with at least two numbers
    of processes.
    """
    rates: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
    for row in table.rows:
        for device, name in SPANS.items():
            seconds, world, batch = (
                row.cell(f"{device}_{column}").value for column in ("fb_s", "processes", "batch")
            )
            if not seconds or not world:
                continue
            usual = {"layout": "contiguous", f"{device}_mode": "eager"}
            unusual = [
                str(row.cell(column).value)
                for column, value in usual.items()
                if row.cell(column).value not in (value, None)
            ]
            place = ", ".join(
                [*(str(row.cell(column).value) for column in ("image", "dtype")), *unusual]
            )
            titles = [f"strong scaling, batch {batch} ({place})"]
            titles += (
                [f"weak scaling, {batch // world} images each ({place})"]
                if batch % world == 0
                else []
            )
            for title in titles:
                rates.setdefault((name, title), {}).setdefault(row.label, {})[world] = (
                    batch / seconds
                )
    scaled = {
        panel: {label: rates for label, rates in rows.items() if len(rates) > 1}
        for panel, rows in rates.items()
    }
    return {panel: rows for panel, rows in scaled.items() if rows}
