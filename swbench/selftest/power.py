"""Statistical power on this machine: how often a run of so many processes detects a real
difference, and how often a false one, from the noise that the self-test measured.
"""

import itertools
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swbench.case import Case
from swbench.plan import FASTER_HALF, Group, Plan
from swbench.result import FORWARD, FORWARD_BACKWARD, Round
from swbench.selftest.judging import FAILED, INCONCLUSIVE, PASSED, QUIET_REMEDY, Outcome
from swbench.selftest.workloads import DELAY, known_value
from swbench.stats.estimators import Pair
from swbench.stats.intervals import log_ratio
from swbench.stats.samples import by_replicate

PROCESSES = (4, 8, 16, 32)
RUNS = 400
"""Simulated runs for each line: they estimate a rate of 5 % to 1 point, a rate of 90 % to 1.5
points.
"""

DETECTED_IN = 0.9
LARGEST_FALSE_RATE = 0.075
"""Largest accepted rate of false differences. A correct instrument calls equal networks different
in at most 5 % of runs; 400 runs show up to 2.5 points more by chance.
"""

FEW_PROCESSES = 4
"""Processes of the runs that are drawn from those with a planted delay."""

RATE_TOLERANCE = 0.2
"""Largest distance between the detection rate of an added delay and the predicted one. Both come
from the same 16 processes or so, whose draws overlap. Heuristic.
"""

Times = Sequence[tuple[float, ...]]
"""The times of some cases in each round of one process."""


@dataclass(frozen=True)
class Power:
    """Detections of simulated runs. `detection_thresholds` holds for each run the log-ratio above
    which it would have called a variant slower; `false_positive_rate` is the share of runs that
    called equal networks slower or faster.
    """

    detection_thresholds: tuple[float, ...]
    false_positive_rate: float

    def rate(self, delay: float) -> float:
        """The share of runs that call a variant slower that takes `delay` (a share) longer."""
        detected = [threshold < math.log1p(delay) for threshold in self.detection_thresholds]
        return sum(detected) / len(detected)

    @property
    def smallest(self) -> float:
        """The smallest delay, as a share, that 9 of 10 runs detect."""
        ordered = sorted(self.detection_thresholds)
        return math.expm1(max(0.0, ordered[math.ceil(DETECTED_IN * len(ordered)) - 1]))


def power(processes: Sequence[Times], replicates: int, seed: int = 0) -> Power:
    """The power of runs of `replicates` processes, by simulation: processes are drawn from
    `processes` with replacement. Each process holds the times of three equal networks, which get
    random roles.
    """
    draw, thresholds, false_positives = random.Random(f"{seed} {replicates}"), [], 0
    for _ in range(RUNS):
        drawn = []
        for process in draw.choices(processes, k=replicates):
            baseline, variant, control = draw.sample(range(3), 3)
            drawn.append(
                [(round_[baseline], round_[variant], round_[control]) for round_ in process]
            )
        effect, threshold = effect_and_threshold(drawn)
        thresholds.append(threshold - effect)
        false_positives += abs(effect) > threshold
    return Power(tuple(thresholds), false_positives / RUNS)


def effect_and_threshold(run: Sequence[Sequence[Pair]]) -> tuple[float, float]:
    """The log-ratio of a run, and the log-ratio above which it would be called slower: its own
    half-width or that of the noise floor, whichever is larger.
    """
    ratio = log_ratio(run, estimator=FASTER_HALF)
    twins = [[(baseline, control) for baseline, _, control in process] for process in run]
    return ratio.effect, max(ratio.half_width, log_ratio(twins, estimator=FASTER_HALF).half_width)


def judge_power(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """An outcome for each number of processes, and one for each added delay: whether it is detected
    as often as predicted. `plan` is that of the delays, the first of which is 0.
    """
    (group,) = plan.groups
    replicates = by_replicate(rounds)
    if len(replicates) < FEW_PROCESSES:
        yield Outcome(
            "power", INCONCLUSIVE, f"{len(replicates)} processes", f"{FEW_PROCESSES}", QUIET_REMEDY
        )
        return
    replicate_s = _replicate_s(replicates)
    promised = {}
    for count in PROCESSES:
        parts, false_positives = [], 0.0
        for metric, letters in ((FORWARD, "F"), (FORWARD_BACKWARD, "F+B")):
            estimate = power(
                times_of(replicates, equal_cases(group), metric),
                count,
            )
            promised[count, metric] = estimate
            parts.append(
                f"{letters} finds {100 * estimate.smallest:.2g} % slower in 9 of 10 runs, and is "
                f"wrong in {100 * estimate.false_positive_rate:.1f} % of them"
            )
            false_positives = max(false_positives, estimate.false_positive_rate)
        yield Outcome(
            f"power, {count} processes, {count * replicate_s:.0f} s",
            PASSED if false_positives <= LARGEST_FALSE_RATE else FAILED,
            "; ".join(parts),
            f"wrong in at most {100 * LARGEST_FALSE_RATE:g} %",
        )
    for case, row in zip(group.cases[3:], group.rows[3:], strict=True):
        for metric, letters in ((FORWARD, "F"), (FORWARD_BACKWARD, "F+B")):
            planted = times_of(replicates, case_and_baselines(group, case), metric)
            delay = known_value(case, DELAY)
            yield _detects_as_promised(
                f"power, {row} {letters}", promised[FEW_PROCESSES, metric].rate(delay), planted
            )


def _detects_as_promised(name: str, promised: float, planted: Sequence[Times]) -> Outcome:
    """The outcome for an added delay: whether runs of a few processes detect it as often as
    predicted.
    """
    draw, seen = random.Random(name), 0
    for _ in range(RUNS):
        effect, threshold = effect_and_threshold(draw.choices(planted, k=FEW_PROCESSES))
        seen += effect > threshold
    rate = seen / RUNS
    result = f"called slower in {rate:.0%} of runs of {FEW_PROCESSES} processes"
    expected = f"{promised:.0%}, as promised, within {100 * RATE_TOLERANCE:.0f} points"
    if abs(rate - promised) <= RATE_TOLERANCE:
        return Outcome(name, PASSED, result, expected)
    return Outcome(name, INCONCLUSIVE, result, expected, QUIET_REMEDY)


def equal_cases(group: Group) -> Sequence[str]:
    """The keys of the three equal networks of the delays."""
    return (*group.baselines, group.cases[2].key)


def case_and_baselines(group: Group, case: Case) -> Sequence[str]:
    """The keys of baseline, `case` and control, in the order of a `Pair`."""
    baseline, control = group.baselines
    return baseline, case.key, control


def times_of(
    replicates: Sequence[Sequence[Round]], cases: Sequence[str], metric: str
) -> list[Times]:
    """The times of `cases` (keys), in seconds, of each process."""
    return [
        [tuple(round_.samples[case][metric] for case in cases) for round_ in rounds]
        for rounds in replicates
    ]


def _replicate_s(replicates: Sequence[Sequence[Round]]) -> float:
    """Seconds of a process, its start and warm-up included: from one's first round to that of the
    next.
    """
    starts = [rounds[0].started for rounds in replicates]
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(starts))
