"""An estimate of a run's time and interval widths, from a few rounds of each group."""

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from swbench import formatting as numbers
from swbench.case import AnyCase, device_kind
from swbench.plan import Group, Plan, Protocol
from swbench.result import Round, call_s
from swbench.stats.estimators import SCATTER, replicate_value
from swbench.stats.intervals import t_quantile
from swbench.stats.samples import by_replicate, pairs_of_rows
from swbench.stats.stopping import Stopping, confidence_of
from swbench.worker.warmup import WINDOW

BETWEEN_PROCESSES_SD = 0.003
"""Standard deviation of a log-ratio from process to process beyond what their rounds explain,
assumed until four processes have run. Heuristic: 0 to 0.6 % in docs/variance.md.
"""

ENOUGH_REPLICATES = 4


@dataclass(frozen=True)
class Estimate:
    """The expected time of a run in seconds and the half-width of its widest interval (log scale;
    infinite for one replicate).

    With a target each group stops by itself: `replicates` is the largest of their numbers, `fewest`
    the smallest. `scaled` names groups without a round yet, whose time is scaled by FLOPs from that
    of others. `without_rounds` names groups that neither figure includes, and `fallbacks` those
    that are measured only where a larger batch runs out of memory.
    """

    seconds: float
    half_width: float
    replicates: int
    rounds: int
    fewest: int
    without_rounds: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()

    def line(self) -> str:
        """The estimate in one line."""
        precision = (
            f"ratios to about {numbers.precision(self.half_width)}"
            if math.isfinite(self.half_width)
            else "no intervals from one replicate"
        )
        scaled = f"; the time of {_names(self.scaled)} scaled by FLOPs" if self.scaled else ""
        missing = f"; without {_names(self.without_rounds)}" if self.without_rounds else ""
        fallbacks_text = (
            f"; {_names(self.fallbacks)} only if memory runs out before" if self.fallbacks else ""
        )
        count = (
            self.replicates
            if self.fewest == self.replicates
            else f"{self.fewest} to {self.replicates}"
        )
        return (
            f"about {_duration(self.seconds)} for {count} replicates of "
            f"{self.rounds} rounds; {precision}{scaled}{missing}{fallbacks_text}"
        )


def _names(groups: Sequence[str]) -> str:
    return (
        ", ".join(groups)
        if len(groups) <= 3
        else f"{', '.join(groups[:2])} and {len(groups) - 2} more groups"
    )


def estimate(
    rounds: Iterable[Round],
    plan: Plan,
    *,
    startup_s: float = 0.0,
    before_s: Mapping[str, float] | None = None,
    replicate_s: Mapping[str, float] | None = None,
    work: Mapping[str, float] | None = None,
    ran_out: Collection[str] = (),
    settled: Mapping[str, int] | None = None,
    done: Mapping[str, int] | None = None,
) -> Estimate:
    """Time and expected half-width of `plan`, from `rounds` of some or all of its groups.

    All times are in seconds, by group name. `before_s` is the time of a worker before its first
    round; where it is missing, it is `startup_s` before the first call plus a warm-up by the
    protocol. `replicate_s` is the time of a replicate where it is known as a whole. `work` holds
    the FLOPs of a call by case key: the time of a group without a round is scaled by them from
    groups on the same kind of device with as many threads. Groups in `ran_out` that have a
    fallback, and fallbacks that are not due, are left out. `settled` holds the replicates of groups
    that have stopped, `done` those that the others have so far.

    Within a process the standard error of n rounds is c·s/√n, with c the estimator's `SCATTER`.
    Between processes the standard deviation of the log-ratio is `BETWEEN_PROCESSES_SD`, or its
    estimate once four have run. The half-width of K replicates is t·√(between² + within²)/√K. With
    a target, K is the first look at which the group is expected to reach it. Raises ValueError
    where no group of the plan has a round.
    """
    groups, due = plan.lasting(ran_out), {group.name for group in plan.due(ran_out)}
    rounds_by_group = {group.name: [] for group in groups}
    for round_ in rounds:
        if round_.group in rounds_by_group:
            rounds_by_group[round_.group].append(round_)
    known = [
        (group, rounds_by_group[group.name]) for group in groups if rounds_by_group[group.name]
    ]
    if not known:
        raise ValueError("an estimate needs a round of at least one group of the plan")
    protocol = plan.protocol
    dispersions = {group.name: _dispersion(group, rounds, protocol) for group, rounds in known}
    widest = max(dispersions.values())
    replicates = {
        group.name: _replicates(
            dispersions.get(group.name, widest), protocol, (done or {}).get(group.name, 0)
        )
        for group in groups
    } | dict(settled or {})
    calls = {group.name: _calls(rounds) for group, rounds in known}
    for group in groups:
        if group.name not in calls and (scaled := _scaled(group, known, work or {})):
            calls[group.name] = scaled
    rounds_s = {
        group.name: statistics.median([round_.ended - round_.started for round_ in rounds])
        for group, rounds in known
    }
    before_s = {
        name: startup_s + _warm_up_s(seconds_by_case.values(), protocol)
        for name, seconds_by_case in calls.items()
    } | dict(before_s or {})
    group_s = {
        name: before_s[name] + protocol.rounds * rounds_s.get(name, sum(seconds_by_case.values()))
        for name, seconds_by_case in calls.items()
    } | {name: time_s for name, time_s in (replicate_s or {}).items() if name in calls}
    return Estimate(
        seconds=sum(replicates[name] * seconds for name, seconds in group_s.items()),
        half_width=max(
            _half_width(dispersion, replicates[name], protocol)
            for name, dispersion in dispersions.items()
        ),
        replicates=max(replicates[name] for name in group_s),
        rounds=protocol.rounds,
        fewest=min(replicates[name] for name in group_s),
        without_rounds=tuple(name for name in rounds_by_group if name not in calls),
        scaled=tuple(
            name for name, rounds in rounds_by_group.items() if name in calls and not rounds
        ),
        fallbacks=tuple(group.name for group in plan.groups if group.name not in due),
    )


def _half_width(dispersion: float, replicates: int, protocol: Protocol) -> float:
    if replicates < 2:
        return math.inf
    return (
        t_quantile(confidence_of(protocol.target_ci), replicates - 1)
        * dispersion
        / math.sqrt(replicates)
    )


def _replicates(dispersion: float, protocol: Protocol, done: int) -> int:
    if protocol.target_ci is None:
        return protocol.replicates
    stopping = Stopping(protocol.target_ci)
    return next(
        (
            k
            for k in stopping.looks
            if k > done and _half_width(dispersion, k, protocol) <= protocol.target_ci
        ),
        stopping.most,
    )


def _calls(rounds: Sequence[Round]) -> dict[str, float]:
    """Seconds of one call of each case, scaled so that they add up to the time of a round: on a GPU
    a call is a block of iterations, and a sample is the mean over it.
    """
    longest = {
        key: statistics.median(
            [call_s(round_.samples[key]) for round_ in rounds if round_.samples.get(key)]
        )
        for key in {key for round_ in rounds for key in round_.samples}
    }
    shares = [
        (round_.ended - round_.started) / sum_s
        for round_ in rounds
        if (sum_s := sum(map(call_s, round_.samples.values()))) > 0
    ]
    return (
        {key: value * statistics.median(shares) for key, value in longest.items()}
        if shares
        else longest
    )


def _scaled(
    group: Group, known: Iterable[tuple[Group, Sequence[Round]]], work: Mapping[str, float]
) -> dict[str, float]:
    """Seconds of one call of each case, by its FLOPs and the seconds that a FLOP took in groups of
    the same kind; empty where either is not known.
    """
    spent_s = flops = 0.0
    for other, rounds in known:
        if _device_and_threads(other.cases[0]) == _device_and_threads(group.cases[0]):
            call_times = {key: value for key, value in _calls(rounds).items() if key in work}
            spent_s, flops = (
                spent_s + sum(call_times.values()),
                flops + sum(work[key] for key in call_times),
            )
    if not flops or any(case.key not in work for case in group.cases):
        return {}
    return {case.key: work[case.key] * spent_s / flops for case in group.cases}


def _device_and_threads(case: AnyCase) -> tuple[str, int]:
    return device_kind(case.device), case.threads


def _warm_up_s(calls: Iterable[float], protocol: Protocol) -> float:
    """Seconds of the warm-up of cases with these seconds per call: the calls and seconds of the
    protocol, and two windows that agree, unless the cap comes first.
    """
    cap_s = max(protocol.warmup_cap_s, protocol.warmup_s)
    return sum(
        max(
            protocol.warmup_calls * call_time_s,
            protocol.warmup_s,
            min(2 * WINDOW * call_time_s, cap_s),
        )
        for call_time_s in calls
    )


def _dispersion(group: Group, rounds: Sequence[Round], protocol: Protocol) -> float:
    """The standard deviation of a replicate's log-ratio, of the row in which it is largest."""
    estimator, widest = protocol.estimator, 0.0
    for pairs in pairs_of_rows(by_replicate(rounds), group, estimator).values():
        replicates = [replicate_pairs for replicate_pairs in pairs if replicate_pairs]
        if len(replicates) >= ENOUGH_REPLICATES:
            values = [replicate_value(replicate_pairs, estimator) for replicate_pairs in replicates]
            widest = max(widest, statistics.stdev(values))
        elif replicates:
            logs = [math.log(variant / base) for base, variant, *_ in max(replicates, key=len)]
            within = SCATTER[estimator] * (statistics.stdev(logs) if len(logs) > 1 else 0.0)
            widest = max(
                widest, math.hypot(BETWEEN_PROCESSES_SD, within / math.sqrt(protocol.rounds))
            )
    return widest


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
