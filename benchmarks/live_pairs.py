"""How wide the intervals of two protocols are in live runs, and whether they claim the truth:
`python benchmarks/live_pairs.py --before RUN… --after RUN…`, runs of one suite and machine, taken
in turn.

For each row but the baseline, pass by pass: the mean half-width of the runs before and after (each
by its own estimator), how much the middles of the runs scatter (their standard deviation), and what
the intervals claim that they scatter by (the root mean square of half-width / t). Last the means
over all rows and passes, the wall time of a run, how many intervals of the control hold 1, and the
ratios over all runs of a side.
"""

import argparse
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from swbench import store
from swbench.case import CONTROL
from swbench.errors import SwbenchError
from swbench.report.cautions import PASS_NAMES
from swbench.stats.intervals import Interval, log_ratio, mean_interval, t_quantile
from swbench.stats.samples import by_replicate, pairs_of_rows
from swbench.store import StoredRun

Cells = dict[tuple[str, str], list[Interval]]
"""(row, pass) -> the interval of each run."""


@dataclass(frozen=True)
class Widths:
    """Of the runs of one cell, on the log scale: the mean half-width, the standard deviation of
    the middles, and that which the intervals claim.
    """

    half_width: float
    scatter: float
    claimed: float


def widths(intervals: Sequence[Interval]) -> Widths:
    """The `Widths` of at least two intervals, each of at least two processes."""
    claims = [
        interval.half_width / t_quantile(interval.confidence, interval.replicates - 1)
        for interval in intervals
    ]
    return Widths(
        half_width=statistics.fmean(interval.half_width for interval in intervals),
        scatter=statistics.stdev(interval.effect for interval in intervals),
        claimed=math.sqrt(statistics.fmean(claim**2 for claim in claims)),
    )


def cells(runs: Sequence[StoredRun]) -> Cells:
    """The intervals of all rows but the baseline."""
    intervals: Cells = defaultdict(list)
    for run in runs:
        estimator = run.plan.protocol.estimator
        for group in run.plan.groups:
            rounds = by_replicate([item for item in run.rounds if item.group == group.name])
            labels = {
                case.key: CONTROL if case.role == CONTROL else row
                for case, row in zip(group.cases, group.rows, strict=True)
            }
            for (key, metric), pairs in pairs_of_rows(rounds, group, estimator).items():
                cell = labels[key], PASS_NAMES[metric]
                intervals[cell].append(log_ratio(pairs, estimator=estimator))
    return intervals


def comparable(before: Sequence[StoredRun], after: Sequence[StoredRun]) -> tuple[Cells, Cells]:
    """The `cells` of both sides. Raises ValueError where `table` cannot compare them."""
    if min(len(before), len(after)) < 2 or not all(run.complete for run in (*before, *after)):
        raise ValueError("needs two runs or more a side, each complete")
    first, second = cells(before), cells(after)
    if first.keys() != second.keys():
        raise ValueError("needs runs with the same rows")
    if not all(item.known for side in (first, second) for each in side.values() for item in each):
        raise ValueError("a run of one replicate has no intervals")
    return first, second


def minutes(run: StoredRun) -> tuple[float, float]:
    """The wall time of a run that was not interrupted, and that of its rounds."""
    rounds_s = sum(item.ended - item.started for item in run.rounds)
    return (run.header["ended"] - run.header["created"]) / 60, rounds_s / 60


def table(before: Cells, after: Cells) -> list[str]:
    """Markdown: a line a row and pass, and one of their means."""
    lines = [
        "| row | pass | half-width before | after | ratio | middles scatter before | claimed "
        "| after | claimed |",
        f"|---|---|{7 * '---:|'}",
    ]
    sides = [(widths(before[cell]), widths(after[cell])) for cell in before]
    for (row, name), pair in zip(before, sides, strict=True):
        lines.append(_line(row, name, *pair))
    means = [
        Widths(
            statistics.fmean(side.half_width for side in column),
            math.sqrt(statistics.fmean(side.scatter**2 for side in column)),
            math.sqrt(statistics.fmean(side.claimed**2 for side in column)),
        )
        for column in zip(*sides, strict=True)
    ]
    return [*lines, _line("mean", "", *means)]


def _line(row: str, name: str, first: Widths, second: Widths) -> str:
    numbers = (first.scatter, first.claimed, second.scatter, second.claimed)
    return (
        f"| {row} | {name} | ±{first.half_width:.2%} | ±{second.half_width:.2%} | "
        f"{second.half_width / first.half_width:.2f} | "
        f"{' | '.join(f'{number:.2%}' for number in numbers)} |"
    )


def summary(name: str, runs: Sequence[StoredRun], intervals: Cells) -> str:
    """One line about the runs of one side."""
    control = [item for (row, _), items in intervals.items() if row == CONTROL for item in items]
    length, in_rounds = map(statistics.fmean, zip(*map(minutes, runs), strict=True))
    return (
        f"{name}: {len(runs)} runs of {length:.1f} min, {in_rounds:.1f} of them in rounds; "
        f"{sum(item.holds(1) for item in control)} of {len(control)} intervals of the control "
        "hold 1"
    )


def together(intervals: Cells) -> str:
    """The ratio of each cell over all runs, with the 95 % interval from the runs' middles."""
    ratios = []
    for (row, name), each in intervals.items():
        mean, half = mean_interval([item.effect for item in each], 0.95)
        ratios.append(f"{row} {name} {math.exp(mean):.3f} ±{half:.1%}")
    return ", ".join(ratios)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 2 where the runs cannot be read or compared."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for side in ("--before", "--after"):
        options.add_argument(side, nargs="+", type=Path, metavar="RUN", required=True)
    given = options.parse_args(argv)
    try:
        before, after = (
            [store.load(folder) for folder in side] for side in (given.before, given.after)
        )
        sides = comparable(before, after)
    except (SwbenchError, OSError, ValueError) as problem:
        sys.stderr.write(f"live_pairs: {problem}\n")
        return 2
    for line in table(*sides):
        sys.stdout.write(f"{line}\n")
    for name, runs, side in zip(("before", "after"), (before, after), sides, strict=True):
        sys.stdout.write(f"{summary(name, runs, side)}\n  {together(side)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
