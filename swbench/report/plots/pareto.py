"""Solvers by error and time. Those on the Pareto front, to the left and below, are worth using."""

from swbench.report.plots.style import (
    MARKERS,
    PALETTE,
    figure,
    logarithmic,
    shortened,
    styled,
    title_with_count,
)

MOST_PANELS = 6

FLOOR = 1e-17
"""The place on the axis for an error of exactly 0."""


@styled
def pareto(table):
    """A panel for each size: time of F+B for a matrix (of F where there is no F+B) against the
    worst relative error of W, a marker for each solver. None without accuracy.
    """
    if table.kind != "solver":
        return None
    panels = [(section, points) for section in table.sections if (points := _points(section))]
    if not panels:
        return None
    panel_count, panels = len(panels), panels[:MOST_PANELS]
    solvers = list(dict.fromkeys(row.label for _, points in panels for row in points))
    across = min(2, len(panels))
    down = -(-len(panels) // across)
    fig, axes = figure(
        down,
        across,
        width=3.6 * across + 1.5,
        height=3.0 * down + 0.6,
        title=title_with_count(table.title, len(panels), panel_count),
        sharey=True,
    )
    for axis, (section, points) in zip(axes, panels, strict=False):
        for row in points:
            index = solvers.index(row.label)
            exact = str(row.cell("exact").value).startswith("yes")
            axis.plot(
                [1e6 * _time(row)],
                [max(FLOOR, row.cell("w_error_worst").value)],
                MARKERS[index % len(MARKERS)],
                color=PALETTE[index % len(PALETTE)],
                markerfacecolor=PALETTE[index % len(PALETTE)] if exact else "none",
                markersize=9 if row.mark else 6.5,
                markeredgewidth=1.3,
                label=shortened(row.label, 24) + ("" if exact else " (not exact)"),
            )
        front = _front(points)
        axis.plot(
            [1e6 * _time(row) for row in front],
            [max(FLOOR, row.cell("w_error_worst").value) for row in front],
            color="#888888",
            linewidth=1,
            zorder=1,
        )
        logarithmic(axis, "x", "y")
        axis.set_title(shortened(section.title, 52))
        both = any(row.cell("fb_per_matrix_s").value is not None for row in points)
        axis.set_xlabel("F+B, µs a matrix" if both else "F, µs a matrix")
    for axis in axes[len(panels) :]:
        axis.set_visible(False)
    for index in range(0, len(panels), across):
        axes[index].set_ylabel("worst relative error of W")
    handles = {}
    for axis in axes[: len(panels)]:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    fig.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=8)
    return fig


def _time(row):
    value = row.cell("fb_per_matrix_s").value
    return value if value is not None else row.cell("f_per_matrix_s").value


def _points(section):
    return [
        row
        for row in section.rows
        if _time(row) is not None and row.cell("w_error_worst").value is not None
    ]


def _front(points):
    """The exact rows that no exact row beats in both time and error, fastest first."""
    best, front = float("inf"), []
    for row in sorted(
        (row for row in points if str(row.cell("exact").value).startswith("yes")), key=_time
    ):
        if row.cell("w_error_worst").value < best:
            best = row.cell("w_error_worst").value
            front.append(row)
    return front
