"""Before a long run: how long it will take and how narrow its intervals will be, from a few rounds of each group."""

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swbench.case import BASELINE
from swbench.plan import Group, Plan, Protocol
from swbench.report import numbers
from swbench.report.intervals import replicate_value, t_quantile
from swbench.report.statistics import Stopping, confidence_of, pairs
from swbench.result import FORWARD, FORWARD_BACKWARD, Round

BETWEEN = 0.02
"""Standard deviation of a log-ratio from process to process, assumed until four processes have run. Heuristic: 1 % was seen on
a quiet machine with one thread, 2-3 % between ordinary pairs of processes, more with all cores under load."""

ENOUGH_REPLICATES = 4


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take and to buy. `half_width` is that of the widest row's interval (log scale), infinite for one replicate.

    `unseen` names groups of the plan that had no pilot round, and so are in neither figure.
    """

    seconds: float
    half_width: float
    replicates: int
    rounds: int
    unseen: tuple[str, ...] = ()

    def line(self) -> str:
        """The estimate in one line."""
        precision = f"ratios to about {numbers.precision(self.half_width)}" if math.isfinite(self.half_width) else "no intervals from one replicate"
        left_out = f"; without {', '.join(self.unseen)}" if self.unseen else ""
        return f"about {_duration(self.seconds)} for {self.replicates} replicates of {self.rounds} rounds; {precision}{left_out}"


def estimate(pilot: Iterable[Round], plan: Plan, *, startup_s: float = 0.0) -> Estimate:
    """Time and expected half-width of `plan` from `pilot` rounds; `startup_s` is what a worker spent before its first call.

    Within a process the median of n rounds has the standard error 1.2533·s/√n; between processes the log-ratios spread by `BETWEEN`, or, once four
    have run, by what they show. The half-width of K replicates is t·√(between² + within²)/√K. With a target, K is the first look
    expected to reach it. Raises ValueError where no group of the plan has a pilot round.
    """
    seen = {group.name: [] for group in plan.groups}
    for one in pilot:
        if one.group in seen:
            seen[one.group].append(one)
    known = [(group, seen[group.name]) for group in plan.groups if seen[group.name]]
    if not known:
        raise ValueError("a pilot needs at least one round of one group of the plan")
    protocol = plan.protocol
    spread = max((_spread(group, rounds, protocol.rounds) for group, rounds in known), default=0.0)
    replicates = _replicates(spread, protocol)
    each = sum(startup_s + _replicate_s(rounds, protocol) for _, rounds in known)
    return Estimate(
        seconds=replicates * each,
        half_width=_half_width(spread, replicates, protocol),
        replicates=replicates,
        rounds=protocol.rounds,
        unseen=tuple(name for name, rounds in seen.items() if not rounds),
    )


def _half_width(spread: float, replicates: int, protocol: Protocol) -> float:
    if replicates < 2:
        return math.inf
    return t_quantile(confidence_of(protocol.target_ci), replicates - 1) * spread / math.sqrt(replicates)


def _replicates(spread: float, protocol: Protocol) -> int:
    if protocol.target_ci is None:
        return protocol.replicates
    stopping = Stopping(protocol.target_ci)
    return next((k for k in stopping.looks if _half_width(spread, k, protocol) <= protocol.target_ci), stopping.most)


def _replicate_s(rounds: Sequence[Round], protocol: Protocol) -> float:
    """Seconds of one replicate: warm-up of each case, then its rounds."""
    longest = {key: statistics.median([max(one.samples[key].values()) for one in rounds if one.samples.get(key)]) for key in _cases(rounds)}
    warm_up = sum(max(protocol.warmup_s, protocol.warmup_calls * call_s) for call_s in longest.values())
    return warm_up + protocol.rounds * sum(longest.values())


def _cases(rounds: Sequence[Round]) -> list[str]:
    return sorted({key for one in rounds for key, samples in one.samples.items() if samples})


def _spread(group: Group, rounds: Sequence[Round], planned: int) -> float:
    """The widest row's standard deviation of a replicate's value."""
    widest = 0.0
    for case in group.cases:
        for metric in (FORWARD, FORWARD_BACKWARD):
            replicates = [] if case.role == BASELINE else [one for one in pairs(rounds, group.baseline.key, case.key, metric) if one]
            if not replicates:
                continue
            if len(replicates) >= ENOUGH_REPLICATES:
                widest = max(widest, statistics.stdev([replicate_value(one) for one in replicates]))
                continue
            values = [math.log(variant / baseline) for baseline, variant in max(replicates, key=len)]
            within = statistics.stdev(values) if len(values) > 1 else 0.0
            widest = max(widest, math.hypot(BETWEEN, 1.2533 * within / math.sqrt(planned)))
    return widest


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
