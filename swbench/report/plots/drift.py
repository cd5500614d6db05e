"""The baseline's seconds over the run: drift, steps between replicates, and the rounds that the
rule marks as disturbed.
"""

from statistics import median

from swbench.report.plots.style import MARKERS, PALETTE, figure, short, some, styled
from swbench.report.run_summary import MeasuredRun
from swbench.result import FORWARD, FORWARD_BACKWARD
from swbench.stats.samples import by_replicate, disturbed

MOST = 4

CROSSED = "disturbed"

COLOURS = tuple(colour for colour in PALETTE if colour != "#000000")
SHAPES = tuple(marker for marker in MARKERS if marker not in ("P", "X"))
"""A replicate looks like no black cross."""


@styled
def drift(table):
    """A panel a group: each round's baseline relative to the median, by its place in time; None
    without a timed baseline.

    Where there are too many, batches that were given up for a smaller one come last.
    """
    if table.source is None:
        return None
    measured = MeasuredRun(table.source)
    panels = []
    for group in sorted(measured.groups, key=lambda group: group.name in measured.given_up):
        base = group.baseline_key
        metric = next(
            (
                m
                for m in (FORWARD_BACKWARD, FORWARD)
                if any(m in one.samples.get(base, ()) for one in measured.rounds[group.name])
            ),
            None,
        )
        if metric is not None:
            panels.append((group.name, base, metric))
    if not panels:
        return None
    found, panels = len(panels), panels[:MOST]
    title = some(f"{table.title}: the baseline over the run", len(panels), found)
    made, axes = figure(len(panels), 1, width=7.0, height=2.2 * len(panels) + 0.6, title=title)
    for axis, (name, base, metric) in zip(axes, panels, strict=True):
        replicates, marked = (
            by_replicate(measured.rounds[name]),
            disturbed(measured.rounds[name], base),
        )
        usual = median(
            one.samples[base][metric]
            for rounds in replicates
            for one in rounds
            if metric in one.samples.get(base, ())
        )
        start = min(one.started for rounds in replicates for one in rounds)
        for index, rounds in enumerate(replicates):
            # several workers where cases are paired one by one, each with its rounds from 0
            rounds = sorted(rounds, key=lambda one: one.started)
            colour, marker = COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)]
            points = [
                (one.started - start, one.samples[base][metric] / usual)
                for one in rounds
                if metric in one.samples.get(base, ())
            ]
            axis.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=0.8,
                label=f"replicate {rounds[0].replicate}",
            )
            crossed = [
                (one.started - start, one.samples[base][metric] / usual)
                for one in rounds
                if base in marked[one.place] and metric in one.samples.get(base, ())
            ]
            if crossed:
                axis.plot(
                    *zip(*crossed, strict=True),
                    "x",
                    color="#000000",
                    markersize=9,
                    markeredgewidth=1.4,
                    label=CROSSED,
                )
        axis.axhline(1, color="#333333", linewidth=0.8)
        axis.set_title(short(name, 70))
        axis.set_xlabel("seconds since the first round")
        axis.set_ylabel("time / median")
        handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        crosses = [(name, handle) for name, handle in handles.items() if name == CROSSED]
        told = [(name, handle) for name, handle in handles.items() if name != CROSSED]
        # colours come again, and the order in time says which replicate it is
        if len(told) > len(COLOURS):
            told = [
                (
                    (
                        f"{told[0][0].replace('replicate', 'replicates')} to "
                        f"{told[-1][0].rpartition(' ')[2]}"
                    ),
                    told[0][1],
                )
            ]
        names, drawn = zip(*told, *crosses, strict=True)
        axis.legend(drawn, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return made
