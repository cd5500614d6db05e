"""Time of one matrix over the number of matrices and over their size. It shows where batching pays,
and where a library changes its method.
"""

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from swbench.report.plots.style import (
    LINES,
    MARKERS,
    PALETTE,
    figure,
    logarithmic,
    shortened,
    styled,
    title_with_count,
)

MOST_PANELS = 4
CLIFF = (32, 33)
"""Sizes between which cuSOLVER changes its method: its batched Jacobi takes up to 32×32, and solves
larger matrices one after the other.
"""


def batches(table):
    """µs a matrix (F+B) against B, a panel a G."""
    return _draw(table, "batch", "group_size", "B, matrices in the batch", "G")


def groups(table):
    """µs a matrix (F+B) against G, a panel a B, with the step between 32 and 33 marked."""
    return _draw(table, "group_size", "batch", "G, channels in a group", "B")


@styled
def _draw(table, along, fixed, label, letter):
    if table.kind != "solver":
        return None
    series = {}
    for row in table.rows:
        value = row.cell("fb_per_matrix_s").value
        if value is not None:
            place = (
                row.cell("device").value,
                row.cell("dtype").value,
                row.cell("cache").value,
                row.cell("mode").value,
                row.cell(fixed).value,
            )
            points = series.setdefault(place, {}).setdefault(
                (row.label, row.cell("spectrum").value), {}
            )
            points[row.cell(along).value] = 1e6 * value
    spectra = list(dict.fromkeys(spectrum for lines in series.values() for _, spectrum in lines))
    panels = [
        (place, lines)
        for place, lines in series.items()
        if any(len(points) > 1 for points in lines.values())
    ]
    if not panels:
        return None
    panel_count, panels = len(panels), panels[:MOST_PANELS]
    solvers = list(dict.fromkeys(solver for _, lines in panels for solver, _ in lines))
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    shown = spectra[0]  # time hardly depends on the spectrum; one line a solver can be read
    fig, axes = figure(
        down,
        across,
        width=3.6 * across + 1.5,
        height=3.0 * down + 0.6,
        title=title_with_count(f"{table.title}; {shown}", len(panels), panel_count),
        sharey=True,
    )
    for axis, (place, lines) in zip(axes, panels, strict=False):
        ticks = set()
        for (solver, spectrum), points in lines.items():
            if spectrum != shown:
                continue
            index = solvers.index(solver)
            at = sorted(points)
            ticks.update(at)
            style = {
                "color": PALETTE[index % len(PALETTE)],
                "linestyle": LINES[index // len(PALETTE) % len(LINES)],
                "linewidth": 1.3,
            }
            axis.plot(
                at,
                [points[x] for x in at],
                marker=MARKERS[index % len(MARKERS)],
                markersize=4.5,
                label=shortened(solver, 24),
                **style,
            )
        axis.set_xscale("log")
        logarithmic(axis, "y")
        axis.xaxis.set_major_locator(FixedLocator(_readable_ticks(sorted(ticks))))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        if along == "group_size" and ticks.issuperset(CLIFF):
            axis.axvspan(*CLIFF, color="#bbbbbb", alpha=0.6, linewidth=0)
            axis.text(
                CLIFF[1], 1.0, " 32|33", transform=axis.get_xaxis_transform(), fontsize=8, va="top"
            )
        device, dtype, cache, mode, size = place
        extras = [word for word, usual in ((cache, "hot"), (mode, "eager")) if word != usual]
        axis.set_title(", ".join([f"{letter} = {size}", device, dtype, *extras]))
        axis.set_xlabel(label)
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for index in range(0, len(panels), across):
        axes[index].set_ylabel("F+B, µs a matrix")
    handles = {}
    for axis in axes[: len(panels)]:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    fig.legend(handles.values(), handles.keys(), loc="outside right upper")
    return fig


def _readable_ticks(ticks):
    """Ticks whose labels do not overlap on a logarithmic axis. 33 is left out beside 32, because
    the band marks it.
    """
    shown_ticks = []
    for tick in ticks:
        if not shown_ticks or tick / shown_ticks[-1] > 1.2:
            shown_ticks.append(tick)
    return shown_ticks
