"""How often runs detect a delay of known size, beside the rate that `selftest --power` predicts:
`python benchmarks/planted.py [--delays 1 2] [--processes 256] [--out FILE]`, with nothing else
running. A process takes about four seconds.

The self-test's small network is measured against itself with delays of 0 and of the given
percentages. The even-numbered processes predict how often runs of 4, 8 and 16 processes call each
delay slower, as `selftest --power` does. The odd-numbered ones are such runs, four, eight or
sixteen of them at a time in the order in which they were measured, and their verdicts are counted.
No process serves both. Prints a Markdown line for each delay, pass and number of processes, with
the 95 % interval of the observed rate (Wilson). A delay of 0 counts verdicts of slower and of
faster, at most 5 % of which are predicted. `--out` stores the log-ratio and the threshold of every
run as well.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scipy.stats import binomtest

from swbench.machine import environment
from swbench.plan import Plan
from swbench.report.cautions import PASS_NAMES
from swbench.result import FORWARD, FORWARD_BACKWARD, Round
from swbench.selftest import plans
from swbench.selftest.measuring import RunIncomplete, measure
from swbench.selftest.power import (
    case_and_baselines,
    effect_and_threshold,
    equal_cases,
    power,
    times_of,
)
from swbench.selftest.workloads import DELAY, known_value
from swbench.stats.samples import by_replicate
from swbench.store.files import write_json

SIZES = (4, 8, 16)
"""Processes of a run."""

FALSE_RATE = 0.05


@dataclass(frozen=True)
class Detections:
    """Runs of `processes` processes with a delay, as a share: the log-ratio that each found, the
    log-ratio above which it calls a variant slower, and the predicted rate of detections.
    """

    delay: float
    metric: str
    processes: int
    predicted: float
    effects: tuple[float, ...]
    thresholds: tuple[float, ...]

    @property
    def detected(self) -> int:
        """The number of runs that called the variant slower or, without a delay, different."""
        return sum(
            (effect if self.delay else abs(effect)) > threshold
            for effect, threshold in zip(self.effects, self.thresholds, strict=True)
        )

    @property
    def rate_interval(self) -> tuple[float, float]:
        """The 95 % interval of the rate of detections (Wilson 1927)."""
        observed = binomtest(self.detected, len(self.effects))
        interval = observed.proportion_ci(method="wilson")
        return float(interval.low), float(interval.high)


def detections(plan: Plan, rounds: Sequence[Round]) -> Iterator[Detections]:
    """Of all delays, passes and sizes of a run for which there are processes enough. `plan` is
    that of `plans.delays` with 0 as its first share.
    """
    (group,) = plan.groups
    replicates = by_replicate(rounds)
    predicting, judged = replicates[0::2], replicates[1::2]
    for size in (size for size in SIZES if size <= len(judged)):
        for metric in (FORWARD, FORWARD_BACKWARD):
            prediction = power(times_of(predicting, equal_cases(group), metric), size)
            for case in group.cases[2:]:
                delay = known_value(case, DELAY)
                times = times_of(judged, case_and_baselines(group, case), metric)
                runs = [times[at : at + size] for at in range(0, len(times) - size + 1, size)]
                effects, thresholds = zip(*map(effect_and_threshold, runs), strict=True)
                yield Detections(
                    delay=delay,
                    metric=metric,
                    processes=size,
                    predicted=prediction.rate(delay) if delay else FALSE_RATE,
                    effects=effects,
                    thresholds=thresholds,
                )


def table(lines: Sequence[Detections]) -> Iterator[str]:
    """Markdown: a line for each of `lines`, sorted by delay."""
    yield "| delay | pass | processes | detected | rate [95 %] | predicted |"
    yield "|---|---|---:|---:|---:|---:|"
    for line in sorted(lines, key=lambda line: line.delay):
        runs = len(line.effects)
        low, high = line.rate_interval
        at_most = "" if line.delay else "at most "
        yield (
            f"| {100 * line.delay:g} % | {PASS_NAMES[line.metric]} | {line.processes} | "
            f"{line.detected} of {runs} | {line.detected / runs:.0%} [{low:.0%}, {high:.0%}] | "
            f"{at_most}{line.predicted:.0%} |"
        )


def stored(lines: Sequence[Detections], record: dict[str, Any]) -> dict[str, Any]:
    """What `--out` stores; `record` is that of the environment."""
    return {
        "machine": environment.label(record),
        "code": record["code"],
        "runs": [{**asdict(line), "detected": line.detected} for line in lines],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print the table; 1 where the engine could not measure, 2 for wrong options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--delays", nargs="+", type=float, default=[1.0, 2.0], help="percentages")
    parser.add_argument("--processes", type=int, default=256)
    parser.add_argument("--out", type=Path, help="result file (JSON)")
    options = parser.parse_args(argv)
    if options.processes < 2 * SIZES[0]:
        parser.error(f"--processes {options.processes} are too few: give {2 * SIZES[0]} or more")
    if not all(0 < delay < 100 for delay in options.delays):
        parser.error("--delays are percentages above 0 and below 100")
    if options.out and not options.out.parent.is_dir():
        parser.error(f"--out: there is no folder {options.out.parent}; create it, or name another")
    shares = (0.0, *(delay / 100 for delay in options.delays))
    plan = plans.delays(replicates=options.processes, shares=shares, budget_s=None)
    try:
        rounds = measure(plan, plans.DELAY_TARGET)
    except RunIncomplete as problem:
        sys.stderr.write(f"planted: {problem}\n")
        return 1
    lines = list(detections(plan, rounds))
    for line in table(lines):
        sys.stdout.write(f"{line}\n")
    if options.out:
        write_json(options.out, stored(lines, environment.record()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
