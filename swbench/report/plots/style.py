"""The style of all plots: a palette that colour-blind readers can distinguish, with markers and
hatches for print without colour.
"""

import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from swbench.formatting import exponent
from swbench.report.escaping import plain

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#8C6D31")
"""Okabe and Ito, "Color universal design" (2008), without its yellow, which is lost on white; the
last one is added here.
"""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h", "p")
HATCHES = ("", "////", "....", "xxxx")
LINES = ("-", "--", "-.", ":")
PAPER = {
    "marker": "D",
    "color": "#000000",
    "markerfacecolor": "white",
    "linestyle": "none",
    "markersize": 6,
    "zorder": 5,
}
ERROR = {"ecolor": "#333333", "elinewidth": 1.1, "capsize": 2.5}

SETTINGS = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "both",
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "swbench",
    "text.parse_math": False,
}
"""`text.parse_math` off: a name with a dollar sign is a name. The salt makes the same plot the same
file.
"""


def styled(draw: Callable) -> Callable:
    """A decorator that draws in this style, whatever matplotlib settings the program has."""

    @wraps(draw)
    def inside(*arguments, **keywords):
        with rc_context(SETTINGS):
            return draw(*arguments, **keywords)

    return inside


def figure(
    rows: int, columns: int, *, width: float, height: float, title: str = "", **keywords
) -> tuple[Figure, list[Axes]]:
    """A figure of `width` by `height` inches with rows × columns axes, in reading order."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    axes = fig.subplots(rows, columns, squeeze=False, **keywords)
    if title:
        fig.suptitle(plain(title), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return fig, list(axes.flat)


def write(fig: Figure, path: Path) -> Path:
    """Save as PNG (200 dots an inch) or SVG, by the name's ending. The file appears complete or not
    at all.
    """
    part = path.with_name(f".{os.getpid()}.{path.name}")
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": "swbench"}
    with rc_context(SETTINGS):
        fig.savefig(part, dpi=200, metadata=metadata)
    os.replace(part, path)
    return path


def logarithmic(axis: Axes, *directions: str) -> None:
    """Decades on the x or y axis, written 0.1, 100, 1e-6; where an axis holds less than two
    decades, 2 and 5 as well.
    """
    for direction in directions:
        getattr(axis, f"set_{direction}scale")("log")
        ruler = getattr(axis, f"{direction}axis")
        low, high = getattr(axis, f"get_{direction}lim")()
        ruler.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
        ruler.set_major_formatter(
            FuncFormatter(
                lambda value, _: f"{value:g}" if 1e-3 <= value < 1e5 else exponent(value, 1)
            )
        )
        ruler.set_minor_formatter(NullFormatter())


def device_title(title: str, device: str) -> str:
    """The title of a section without the other device's part."""
    parts = plain(title).split("; ")
    return "; ".join(part for part in parts if part is parts[0] or part.startswith(device))


def title_with_count(title: str, shown: int, total: int) -> str:
    """The title, with the number of drawn panels where there are too many for one figure."""
    return title if shown == total else f"{title} (first {shown} of {total} panels)"


def shortened(text: str, length: int = 30) -> str:
    """A label no longer than `length`."""
    visible = plain(text)
    return visible if len(visible) <= length else f"{visible[: length - 1]}…"


def error_bars(cell) -> tuple[float, float]:
    """(distance of the interval's lower bound, of its upper bound) from the value; zeros without an
    interval.
    """
    return (
        (0.0, 0.0)
        if cell.low is None or cell.high is None
        else (max(0.0, cell.value - cell.low), max(0.0, cell.high - cell.value))
    )
