"""What this machine can see: how often a run of so many processes finds a difference that is there,
and one that is not, from the noise that the self-test measured.
"""

import itertools
import math
import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swbench.plan import FASTER_HALF, Plan
from swbench.result import FORWARD, FORWARD_BACKWARD, Round
from swbench.selftest.judging import CALM, FAILED, INCONCLUSIVE, PASSED, Outcome
from swbench.stats.estimators import Pair
from swbench.stats.intervals import log_ratio
from swbench.stats.samples import by_replicate

PROCESSES = (4, 8, 16, 32)
RUNS = 400
"""Simulated runs a line: a rate of 5 % is known to 1 point, one of 90 % to 1.5."""

FOUND_IN = 0.9
MOST_WRONG = 0.075
"""A sound instrument calls twins different in 5 % of runs at most; 400 runs show up to 2.5 points
more by chance.
"""

FEW = 4
"""Processes of the runs that are drawn from those with a planted delay."""

CLOSE = 0.2
"""How far the rate found for a planted delay may be from the promised one: both come from the same
16 processes or so, whose draws overlap. Heuristic.
"""

Times = Sequence[tuple[float, ...]]
"""The times of some cases in each round of one process."""


@dataclass(frozen=True)
class Power:
    """What runs of so many processes find. `needed` holds of each simulated run the log-ratio from
    which on it would have called a variant slower; `wrong` is the share that called twins slower or
    faster.
    """

    needed: tuple[float, ...]
    wrong: float

    def rate(self, delay: float) -> float:
        """The share of runs that call a delay of this share slower."""
        return sum(one < math.log1p(delay) for one in self.needed) / len(self.needed)

    @property
    def smallest(self) -> float:
        """The smallest delay, as a share, that 9 of 10 runs call slower."""
        ordered = sorted(self.needed)
        return math.expm1(max(0.0, ordered[math.ceil(FOUND_IN * len(ordered)) - 1]))


def power(processes: Sequence[Times], replicates: int, seed: int = 0) -> Power:
    """From the rounds of `processes`, each with the times of three networks that are alike, by
    simulated runs of `replicates` of them, drawn with replacement, the networks in random roles.
    """
    draw, needed, wrong = random.Random(f"{seed} {replicates}"), [], 0
    for _ in range(RUNS):
        drawn = []
        for process in draw.choices(processes, k=replicates):
            baseline, variant, control = draw.sample(range(3), 3)
            drawn.append([(one[baseline], one[variant], one[control]) for one in process])
        effect, least = _judged(drawn)
        needed.append(least - effect)
        wrong += abs(effect) > least
    return Power(tuple(needed), wrong / RUNS)


def _judged(run: Sequence[Sequence[Pair]]) -> tuple[float, float]:
    """The log-ratio of a run, and how large it would have to be to be called slower: beyond its own
    half-width and that of the noise floor.
    """
    ratio = log_ratio(run, estimator=FASTER_HALF)
    twins = [[(baseline, control) for baseline, _, control in process] for process in run]
    return ratio.effect, max(ratio.half_width, log_ratio(twins, estimator=FASTER_HALF).half_width)


def judge_power(plan: Plan, rounds: Sequence[Round]) -> Iterator[Outcome]:
    """A line a number of processes, and whether the promise holds for the delays that were planted.
    The plan is that of the delays, whose first is none.
    """
    (group,) = plan.groups
    replicates = by_replicate(rounds)
    if len(replicates) < FEW:
        yield Outcome("power", INCONCLUSIVE, f"{len(replicates)} processes", f"{FEW}", CALM)
        return
    alike = [*group.baselines, group.cases[2].key]
    each_s = _replicate_s(replicates)
    promised = {}
    for count in PROCESSES:
        told, wrong = [], 0.0
        for metric, short in ((FORWARD, "F"), (FORWARD_BACKWARD, "F+B")):
            found = power([_times(one, alike, metric) for one in replicates], count)
            promised[count, metric] = found
            told.append(
                f"{short} finds {100 * found.smallest:.2g} % slower in 9 of 10 runs, and is wrong "
                f"in {100 * found.wrong:.1f} % of them"
            )
            wrong = max(wrong, found.wrong)
        yield Outcome(
            f"power, {count} processes, {count * each_s:.0f} s",
            PASSED if wrong <= MOST_WRONG else FAILED,
            "; ".join(told),
            f"wrong in at most {100 * MOST_WRONG:g} %",
        )
    for case, row in zip(group.cases[3:], group.rows[3:], strict=True):
        for metric, short in ((FORWARD, "F"), (FORWARD_BACKWARD, "F+B")):
            keys = (group.baselines[0], case.key, group.baselines[1])
            planted = [_times(one, keys, metric) for one in replicates]
            delay = float(case.solver.partition("=")[2])
            yield _kept(f"power, {row} {short}", promised[FEW, metric].rate(delay), planted)


def _kept(name: str, promised: float, planted: Sequence[Times]) -> Outcome:
    """Whether runs of a few of the processes with a planted delay find it as often as promised."""
    draw, seen = random.Random(name), 0
    for _ in range(RUNS):
        effect, least = _judged(draw.choices(planted, k=FEW))
        seen += effect > least
    rate = seen / RUNS
    found = f"called slower in {rate:.0%} of runs of {FEW} processes"
    asked = f"{promised:.0%}, as promised, within {100 * CLOSE:.0f} points"
    if abs(rate - promised) <= CLOSE:
        return Outcome(name, PASSED, found, asked)
    return Outcome(name, INCONCLUSIVE, found, asked, CALM)


def _times(rounds: Sequence[Round], cases: Sequence[str], metric: str) -> Times:
    return [tuple(one.samples[case][metric] for case in cases) for one in rounds]


def _replicate_s(replicates: Sequence[Sequence[Round]]) -> float:
    """Seconds of a process, its start and warm-up included: from one's first round to that of the
    next.
    """
    starts = [rounds[0].started for rounds in replicates]
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(starts))
