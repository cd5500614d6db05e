"""Where the uncertainty of ratios comes from, in stored runs: `python benchmarks/variance.py RUN…`.

For each group and pass, over all rows but the baseline: how much one call scatters within a
process, how much of that the calls of a round share, how much the log-ratio of a round scatters,
what the median of a process's rounds therefore scatters by (the floor, by resampling its rounds),
what the medians of processes do scatter by, and what is left for the process itself.

With `--replay`: how wide the intervals of runs of such processes and rounds are, by the protocol
and estimator of the first version and by today's, from simulated runs that draw both with
replacement.

With `--targets`: how often such simulated runs with a target precision take as many replicates as
their estimates said: that of the first three rounds, and where the first look does not end the run,
that after it.
"""

import argparse
import math
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from swbench import store
from swbench.case import BASELINE
from swbench.errors import SwbenchError
from swbench.plan import FASTER_HALF, MEDIAN, Group, Plan
from swbench.report.cautions import PASS_NAMES
from swbench.result import Round
from swbench.run.estimate import estimate
from swbench.stats.estimators import Pair
from swbench.stats.intervals import log_ratio
from swbench.stats.samples import by_replicate, pairs_of_rows, ratio_pairs
from swbench.stats.stopping import LOOKS, Stopping

RESAMPLES = 400


@dataclass(frozen=True)
class Parts:
    """Standard deviations on the log scale, of `replicates` processes of `rounds` rounds.

    `call`: of a case's calls within a process. `shared`: the mean correlation of two cases of a
    round. `ratio`: of a round's log-ratio within a process; `ratio_middle` the same from the median
    absolute deviation, which outliers do not widen. `floor`: of a process's median if its rounds
    were all there is. `replicate`: of the medians of processes. `process`: what `replicate` has
    beyond `floor`, 0 where it has less.
    """

    replicates: int
    rounds: float
    call: float
    shared: float
    ratio: float
    ratio_middle: float
    floor: float
    replicate: float

    @property
    def process(self) -> float:
        return math.sqrt(max(0.0, self.replicate**2 - self.floor**2))


def parts(replicates: Sequence[np.ndarray], baseline: int, seed: int = 0) -> Parts:
    """The parts of one pass: an array (rounds, cases) of seconds a process, of which column
    `baseline` is divided by.

    Needs two processes with three rounds each.
    """
    logs = [np.log(item) for item in replicates]
    others = [column for column in range(logs[0].shape[1]) if column != baseline]
    ratios = [item[:, others] - item[:, [baseline]] for item in logs]
    rng = np.random.default_rng(seed)
    medians = np.array([np.median(item, axis=0) for item in ratios])
    return Parts(
        replicates=len(logs),
        rounds=float(np.mean([len(item) for item in logs])),
        call=_root_mean([item.var(axis=0, ddof=1) for item in logs]),
        shared=float(np.mean([_correlation(item) for item in logs])),
        ratio=_root_mean([item.var(axis=0, ddof=1) for item in ratios]),
        ratio_middle=_root_mean(
            [(1.4826 * np.median(np.abs(item - np.median(item, 0)), 0)) ** 2 for item in ratios]
        ),
        floor=_root_mean([_variance_of_median(item, rng) for item in ratios]),
        replicate=_root_mean([medians.var(axis=0, ddof=1)]),
    )


def _root_mean(variances: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(variances)))


def _correlation(logs: np.ndarray) -> float:
    arrays_found = np.corrcoef(logs.T)
    return float(arrays_found[np.triu_indices(len(arrays_found), 1)].mean())


def _variance_of_median(ratios: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    draws = rng.integers(len(ratios), size=(RESAMPLES, len(ratios)))
    return np.median(ratios[draws], axis=1).var(axis=0)


def arrays(group: Group, rounds: Sequence[Round], metric: str) -> list[np.ndarray]:
    """Seconds of the rounds that have every case of the group, an array a process."""
    keys = [case.key for case in group.cases]
    complete = [
        [
            [item.samples[key][metric] for key in keys]
            for item in replicate
            if all(metric in item.samples.get(key, ()) for key in keys)
        ]
        for replicate in by_replicate([item for item in rounds if item.group == group.name])
    ]
    return [np.array(item) for item in complete if len(item) > 2]


def lines(folder: Path) -> Iterator[str]:
    """The table's lines of one stored run."""
    run = store.load(folder)
    for group in run.plan.groups:
        roles = [case.role for case in group.cases]
        for metric, name in PASS_NAMES.items():
            arrays_found = arrays(group, run.rounds, metric)
            if len(arrays_found) < 2 or BASELINE not in roles or len(roles) < 2:
                continue
            var = parts(arrays_found, roles.index(BASELINE))
            yield (
                f"| {folder.name} | {group.name} | {name} | {var.replicates} × {var.rounds:.0f} | "
                f"{var.call:.2%} | {var.shared:.2f} | {var.ratio:.2%} | {var.ratio_middle:.2%} | "
                f"{var.floor:.2%} | {var.replicate:.2%} | {var.process:.2%} |"
            )


BEFORE, AFTER = (MEDIAN, 5, 20), (FASTER_HALF, 8, 13)
"""Estimator, processes and rounds of a run by default, in the first version and today."""


def half_width(
    processes: Sequence[Sequence[Pair]], estimator: str, count: int, rounds: int
) -> float:
    """The mean half-width of simulated runs of `count` of the processes, each of so many of its
    rounds.
    """
    draw = random.Random(0)
    return float(
        np.mean(
            [
                log_ratio(
                    [
                        draw.choices(process, k=rounds)
                        for process in draw.choices(processes, k=count)
                    ],
                    estimator=estimator,
                ).half_width
                for _ in range(RESAMPLES)
            ]
        )
    )


def replayed(folder: Path) -> Iterator[str]:
    """A line a row and pass of one stored run: half-widths before and after, and their ratio."""
    run = store.load(folder)
    for group in run.plan.groups:
        replicates = by_replicate([item for item in run.rounds if item.group == group.name])
        for case, row in zip(group.cases, group.rows, strict=True):
            if not group.baselines or case.key in group.baselines:
                continue
            for metric, name in PASS_NAMES.items():
                widths = []
                for estimator, count, rounds in (BEFORE, AFTER):
                    arrays_found = ratio_pairs(
                        replicates, group.baselines, case.key, metric, estimator
                    )
                    complete = [pairs for pairs in arrays_found if pairs]
                    if len(complete) > 1:
                        widths.append(half_width(complete, estimator, count, rounds))
                if widths:
                    before, after = widths
                    yield (
                        f"| {folder.name} | {row} | {name} | ±{before:.2%} | ±{after:.2%} | "
                        f"{after / before:.2f} |"
                    )


TARGETS = (0.01, 0.015, 0.02, 0.03)
RUNS_OF_TARGET = 60
EARLY = 3
"""Rounds before the first estimate."""
LEAST_PROCESSES = 12
"""Fewer processes of a stored run do not show how processes scatter."""


def right_estimates(folder: Path) -> Iterator[str]:
    """A line a target of one stored run: how many simulated runs took what was estimated."""
    run, draw = store.load(folder), random.Random(0)
    for group in run.plan.groups:
        processes = by_replicate([item for item in run.rounds if item.group == group.name])
        if len(processes) < LEAST_PROCESSES:
            continue
        for target in TARGETS:
            protocol = replace(
                run.plan.protocol,
                target_ci=target,
                estimator=AFTER[0],
                replicates=AFTER[1],
                iterations=AFTER[1] * AFTER[2],
            )
            plan = replace(run.plan, groups=(group,), protocol=protocol)
            early, late = [], []
            for _ in range(RUNS_OF_TARGET):
                rounds = simulated(processes, AFTER[2], draw)
                taken = replicates_taken(plan, rounds, target)
                early.append(estimate(rounds[0][:EARLY], plan).replicates == taken)
                if taken > LOOKS[0]:
                    seen = [item for each in rounds[: LOOKS[0]] for item in each]
                    expected = estimate(seen, plan, done={group.name: LOOKS[0]})
                    late.append(expected.replicates == taken)
            yield (
                f"| {folder.name} | {group.name} | ±{target:.1%} | {np.mean(early):.0%} | "
                f"{f'{np.mean(late):.0%} of {len(late)}' if late else '–'} |"
            )


def simulated(
    processes: Sequence[Sequence[Round]], rounds: int, draw: random.Random
) -> list[list[Round]]:
    """The longest run with a target: processes and their rounds drawn with replacement."""
    return [
        [
            replace(item, replicate=number, index=index)
            for index, item in enumerate(draw.choices(draw.choice(processes), k=rounds))
        ]
        for number in range(LOOKS[-1])
    ]


def replicates_taken(plan: Plan, rounds: Sequence[Sequence[Round]], target: float) -> int:
    """The replicates after which a run of these rounds stops."""
    (group,), estimator, stopping = plan.groups, plan.protocol.estimator, Stopping(target)
    return next(
        count
        for count in LOOKS
        if stopping.decide(pairs_of_rows(rounds[:count], group, estimator), estimator).stop
    )


PARTS = (
    "| run | group | pass | processes × rounds | a call | shared | ratio of a round | "
    "without outliers | floor of a process | processes | beyond the floor |"
)
REPLAYED = "| run | row | pass | before | after | ratio |"
RIGHT = "| run | group | target | right after three rounds | right after the first look |"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 2 where a run cannot be read."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a stored run")
    kinds = options.add_mutually_exclusive_group()
    for name, view, about in (
        ("--replay", (REPLAYED, replayed), "how wide intervals are, and were"),
        ("--targets", (RIGHT, right_estimates), "how often estimates are right"),
    ):
        kinds.add_argument(name, dest="view", action="store_const", const=view, help=about)
    given = options.parse_args(argv)
    heading, table = given.view or (PARTS, lines)
    write = sys.stdout.write
    write(f"{heading}\n{(heading.count('|') - 1) * '|---'}|\n")
    for folder in given.runs:
        try:
            for line in table(folder):
                write(f"{line}\n")
        except (SwbenchError, OSError) as problem:
            sys.stderr.write(f"variance: {folder}: {problem}\n")
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
