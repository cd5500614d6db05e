"""The baseline's seconds over the run, which show drift, steps between replicates, and the rounds
that the rule marks as disturbed.
"""

from statistics import median

from swbench.report.plots.style import MARKERS, PALETTE, figure, shortened, styled, title_with_count
from swbench.report.run_summary import RunSummary
from swbench.result import FORWARD, FORWARD_BACKWARD
from swbench.stats.samples import by_replicate, disturbed

MOST_PANELS = 4

DISTURBED_LABEL = "disturbed"

COLOURS = tuple(colour for colour in PALETTE if colour != "#000000")
SHAPES = tuple(marker for marker in MARKERS if marker not in ("P", "X"))
"""Colours and markers of replicates, without those of the black cross."""


@styled
def drift(table):
    """A panel for each group: the baseline's time in each round relative to the median, over time;
    None without a timed baseline.

    Groups given up for a smaller batch come last, so that they are left out first where there are
    too many panels.
    """
    if table.source is None:
        return None
    summary = RunSummary(table.source)
    panels = []
    for group in sorted(summary.groups, key=lambda group: group.name in summary.given_up):
        base = group.baseline_key
        metric = next(
            (
                m
                for m in (FORWARD_BACKWARD, FORWARD)
                if any(m in round_.samples.get(base, ()) for round_ in summary.rounds[group.name])
            ),
            None,
        )
        if metric is not None:
            panels.append((group.name, base, metric))
    if not panels:
        return None
    panel_count, panels = len(panels), panels[:MOST_PANELS]
    title = title_with_count(f"{table.title}: the baseline over the run", len(panels), panel_count)
    fig, axes = figure(len(panels), 1, width=7.0, height=2.2 * len(panels) + 0.6, title=title)
    for axis, (name, base, metric) in zip(axes, panels, strict=True):
        replicates, marked_cases = (
            by_replicate(summary.rounds[name]),
            disturbed(summary.rounds[name], base),
        )
        median_s = median(
            round_.samples[base][metric]
            for rounds in replicates
            for round_ in rounds
            if metric in round_.samples.get(base, ())
        )
        start = min(round_.started for rounds in replicates for round_ in rounds)
        for index, rounds in enumerate(replicates):
            # several workers where cases are paired one by one, each with its rounds from 0
            rounds = sorted(rounds, key=lambda round_: round_.started)
            colour, marker = COLOURS[index % len(COLOURS)], SHAPES[index % len(SHAPES)]
            points = [
                (round_.started - start, round_.samples[base][metric] / median_s)
                for round_ in rounds
                if metric in round_.samples.get(base, ())
            ]
            axis.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=0.8,
                label=f"replicate {rounds[0].replicate}",
            )
            disturbed_points = [
                (round_.started - start, round_.samples[base][metric] / median_s)
                for round_ in rounds
                if base in marked_cases[round_.place] and metric in round_.samples.get(base, ())
            ]
            if disturbed_points:
                axis.plot(
                    *zip(*disturbed_points, strict=True),
                    "x",
                    color="#000000",
                    markersize=9,
                    markeredgewidth=1.4,
                    label=DISTURBED_LABEL,
                )
        axis.axhline(1, color="#333333", linewidth=0.8)
        axis.set_title(shortened(name, 70))
        axis.set_xlabel("seconds since the first round")
        axis.set_ylabel("time / median")
        handles = dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
        cross_handles = [
            (name, handle) for name, handle in handles.items() if name == DISTURBED_LABEL
        ]
        replicate_handles = [
            (name, handle) for name, handle in handles.items() if name != DISTURBED_LABEL
        ]
        # colours repeat, and the order in time identifies the replicate
        if len(replicate_handles) > len(COLOURS):
            replicate_handles = [
                (
                    (
                        f"{replicate_handles[0][0].replace('replicate', 'replicates')} to "
                        f"{replicate_handles[-1][0].rpartition(' ')[2]}"
                    ),
                    replicate_handles[0][1],
                )
            ]
        names, drawn = zip(*replicate_handles, *cross_handles, strict=True)
        axis.legend(drawn, names, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return fig
