"""Layers in the roofline model of a machine: which are bound by memory and which by arithmetic."""

from collections.abc import Sequence
from dataclasses import dataclass

from swbench.report.plots.style import MARKERS, PALETTE, figure, logarithmic, shortened, styled


@dataclass(frozen=True)
class Point:
    """One layer: operations and bytes moved in `seconds`; `kind` (conv, norm …) decides its
    marker.
    """

    name: str
    kind: str
    flops: float
    moved_bytes: float
    seconds: float

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / self.moved_bytes


@styled
def roofline(
    points: Sequence[Point], *, peak_flops_s: float, peak_bytes_s: float, title: str = "Roofline"
):
    """A figure of all points under min(peak_flops_s, intensity · peak_bytes_s). Raises ValueError
    without a point that can be drawn.

    Williams, Waterman, Patterson (2009), "Roofline: an insightful visual performance model for
    multicore architectures".
    """
    drawn = [
        point for point in points if point.flops > 0 and point.moved_bytes > 0 and point.seconds > 0
    ]
    if not drawn:
        raise ValueError(
            "a roofline needs at least one layer with operations, bytes and time above zero"
        )
    fig, (axis,) = figure(1, 1, width=6.4, height=3.8, title=title)
    ridge = peak_flops_s / peak_bytes_s
    low = min([ridge, *(point.intensity for point in drawn)]) / 2
    high = max([ridge, *(point.intensity for point in drawn)]) * 2
    axis.plot(
        [low, ridge, high],
        [low * peak_bytes_s / 1e9, peak_flops_s / 1e9, peak_flops_s / 1e9],
        color="#333333",
        linewidth=1.5,
    )
    axis.text(
        high,
        peak_flops_s / 1e9,
        f"{peak_flops_s / 1e9:.3g} GFLOP/s",
        ha="right",
        va="bottom",
        fontsize=8,
    )
    axis.annotate(
        f"{peak_bytes_s / 1e9:.3g} GB/s",
        (low, low * peak_bytes_s / 1e9),
        xytext=(10, 4),
        textcoords="offset points",
        fontsize=8,
        ha="left",
        va="bottom",
    )
    longest = max(point.seconds for point in drawn)
    for index, kind in enumerate(dict.fromkeys(point.kind for point in drawn)):
        points_of_kind = [point for point in drawn if point.kind == kind]
        sizes = [14 + 120 * point.seconds / longest for point in points_of_kind]
        axis.scatter(
            [point.intensity for point in points_of_kind],
            [point.flops / point.seconds / 1e9 for point in points_of_kind],
            sizes,
            color=PALETTE[index % len(PALETTE)],
            marker=MARKERS[index % len(MARKERS)],
            alpha=0.75,
            edgecolor="white",
            linewidth=0.5,
            label=shortened(kind),
        )
    for point in sorted(drawn, key=lambda point: -point.seconds)[:5]:
        where = (point.intensity, point.flops / point.seconds / 1e9)
        axis.annotate(
            shortened(point.name, 24),
            where,
            xytext=(5, -9),
            textcoords="offset points",
            fontsize=7.5,
        )
    axis.set_xlim(low, high)
    logarithmic(axis, "x", "y")
    axis.set_xlabel("operations a byte")
    axis.set_ylabel("GFLOP/s reached")
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), title="area: time", title_fontsize=8)
    return fig
