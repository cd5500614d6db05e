"""Plots of stored runs by name, as PNG and SVG. matplotlib is imported only when a plot is
drawn.
"""

import os
from collections.abc import Iterable
from pathlib import Path

from swbench.errors import OptionError, StoreError
from swbench.registry import Registry

TABLE = Registry(
    "plot",
    {
        "ratios": "swbench.report.plots.ratios:ratios",
        "times": "swbench.report.plots.times:times",
        "passes": "swbench.report.plots.times:passes",
        "settings": "swbench.report.plots.settings:settings",
        "scaling": "swbench.report.plots.scaling:scaling",
        "devices": "swbench.report.plots.devices:devices",
        "pareto": "swbench.report.plots.pareto:pareto",
        "batches": "swbench.report.plots.sizes:batches",
        "groups": "swbench.report.plots.sizes:groups",
        "drift": "swbench.report.plots.drift:drift",
    },
)
"""Name -> `draw(table) -> Figure | None`; None where the run has no data for the plot. The roofline
is drawn from a profile, not from a run.
"""

FORMATS = ("png", "svg")


def names() -> tuple[str, ...]:
    """Every plot."""
    return TABLE.names()


def plot_files(
    table,
    directory: str | os.PathLike,
    only: Iterable[str] | None = None,
    formats: Iterable[str] = FORMATS,
) -> list[Path]:
    """Draw every plot that the table's run has data for (or those in `only`) into `directory`, a
    file a format; returns the paths.

    Raises UnknownName for a plot that does not exist, OptionError for an unknown format or where
    there is nothing to draw, StoreError for a folder that cannot be written.
    """
    wanted = [TABLE.check(name) for name in only] if only is not None else list(TABLE.names())
    formats = list(formats)
    for name in formats:
        if name not in FORMATS:
            raise OptionError(f"plots are written as {' or '.join(FORMATS)}, not {name!r}")
    from swbench.report.plots.style import write

    written = []
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        for name in wanted:
            figure = TABLE.load(name)(table)
            if figure is not None:
                written += [write(figure, Path(directory) / f"{name}.{kind}") for kind in formats]
    except OSError as error:
        raise StoreError(
            f"cannot write plots to {directory}: {error.strerror or error}; give "
            "another folder with -o"
        ) from error
    if not written:
        raise OptionError(
            f"run {table.run} holds nothing to "
            f"draw{' as ' + ', '.join(wanted) if only is not None else ''}; it "
            "needs measured times"
        )
    return written
