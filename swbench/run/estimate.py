"""Before a long run: how long it will take and how narrow its intervals will be, from a few rounds
of each group.
"""

import math
import statistics
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from swbench import formatting as numbers
from swbench.case import BASELINE, AnyCase, device_kind
from swbench.plan import Group, Plan, Protocol
from swbench.result import FORWARD, FORWARD_BACKWARD, Round, call_s
from swbench.stats.estimators import SCATTER, replicate_value
from swbench.stats.intervals import t_quantile
from swbench.stats.samples import by_replicate, ratio_pairs
from swbench.stats.stopping import Stopping, confidence_of
from swbench.worker.warmup import WINDOW

BETWEEN = 0.003
"""Standard deviation of a log-ratio from process to process beyond what their rounds explain,
assumed until four processes have run. Heuristic: 0 to 0.6 % in docs/variance.md.
"""

ENOUGH_REPLICATES = 4


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to take and to buy. `half_width` is that of the widest row's interval
    (log scale), infinite for one replicate.

    `scaled` names groups that had no pilot round, and whose time is that of others scaled by their
    FLOPs; `unseen` those that are in neither figure, and `perhaps` those that are not because they
    are only measured where a larger batch runs out of memory.
    """

    seconds: float
    half_width: float
    replicates: int
    rounds: int
    unseen: tuple[str, ...] = ()
    scaled: tuple[str, ...] = ()
    perhaps: tuple[str, ...] = ()

    def line(self) -> str:
        """The estimate in one line."""
        precision = (
            f"ratios to about {numbers.precision(self.half_width)}"
            if math.isfinite(self.half_width)
            else "no intervals from one replicate"
        )
        guessed = f"; the time of {_names(self.scaled)} scaled by FLOPs" if self.scaled else ""
        left_out = f"; without {_names(self.unseen)}" if self.unseen else ""
        perhaps = f"; {_names(self.perhaps)} only if memory runs out before" if self.perhaps else ""
        return (
            f"about {_duration(self.seconds)} for {self.replicates} replicates of "
            f"{self.rounds} rounds; {precision}{guessed}{left_out}{perhaps}"
        )


def _names(groups: Sequence[str]) -> str:
    return (
        ", ".join(groups)
        if len(groups) <= 3
        else f"{', '.join(groups[:2])} and {len(groups) - 2} more groups"
    )


def estimate(
    pilot: Iterable[Round],
    plan: Plan,
    *,
    startup_s: float = 0.0,
    before_s: Mapping[str, float] | None = None,
    whole_s: Mapping[str, float] | None = None,
    work: Mapping[str, float] | None = None,
    ran_out: Collection[str] = (),
) -> Estimate:
    """Time and expected half-width of `plan` from `pilot` rounds, which may be of some groups only.

    `before_s` is what a worker of each group spent before its first round; where it is not known,
    `startup_s` is what one spends before its first call, and its warm-up is reckoned by the
    protocol. `whole_s` is what a replicate takes of groups that have several workers for it. `work`
    holds the FLOPs of a call by case key: by them the time of a group without a round is scaled
    from groups on the same kind of device with as many threads. Of groups that are in `ran_out` and
    have a fallback, and of fallbacks that are not due, nothing is reckoned.

    Within a process the standard error of n rounds is c·s/√n, with c the estimator's `SCATTER`;
    between processes the log-ratios spread by `BETWEEN`, or, once four have run, by what they show.
    The half-width of K replicates is t·√(between² + within²)/√K. With a target, K is the first look
    expected to reach it. Raises ValueError where no group of the plan has a pilot round.
    """
    groups, due = plan.lasting(ran_out), {group.name for group in plan.due(ran_out)}
    seen = {group.name: [] for group in groups}
    for one in pilot:
        if one.group in seen:
            seen[one.group].append(one)
    known = [(group, seen[group.name]) for group in groups if seen[group.name]]
    if not known:
        raise ValueError("a pilot needs at least one round of one group of the plan")
    protocol = plan.protocol
    spread = max((_spread(group, rounds, protocol) for group, rounds in known), default=0.0)
    replicates = _replicates(spread, protocol)
    calls = {group.name: _calls(rounds) for group, rounds in known}
    for group in groups:
        if group.name not in calls and (scaled := _scaled(group, known, work or {})):
            calls[group.name] = scaled
    rounds_s = {
        group.name: statistics.median([one.ended - one.started for one in rounds])
        for group, rounds in known
    }
    before_s = {
        name: startup_s + _warm_up_s(found.values(), protocol) for name, found in calls.items()
    } | dict(before_s or {})
    each_s = {
        name: before_s[name] + protocol.rounds * rounds_s.get(name, sum(found.values()))
        for name, found in calls.items()
    } | dict(whole_s or {})
    return Estimate(
        seconds=replicates * sum(each_s.values()),
        half_width=_half_width(spread, replicates, protocol),
        replicates=replicates,
        rounds=protocol.rounds,
        unseen=tuple(name for name in seen if name not in calls),
        scaled=tuple(name for name, rounds in seen.items() if name in calls and not rounds),
        perhaps=tuple(group.name for group in plan.groups if group.name not in due),
    )


def _half_width(spread: float, replicates: int, protocol: Protocol) -> float:
    if replicates < 2:
        return math.inf
    return (
        t_quantile(confidence_of(protocol.target_ci), replicates - 1)
        * spread
        / math.sqrt(replicates)
    )


def _replicates(spread: float, protocol: Protocol) -> int:
    if protocol.target_ci is None:
        return protocol.replicates
    stopping = Stopping(protocol.target_ci)
    return next(
        (k for k in stopping.looks if _half_width(spread, k, protocol) <= protocol.target_ci),
        stopping.most,
    )


def _calls(rounds: Sequence[Round]) -> dict[str, float]:
    """Seconds of one call of each case, as they share the time of a round: on a GPU a call is a
    block of iterations, of which the samples are the mean.
    """
    longest = {
        key: statistics.median([call_s(one.samples[key]) for one in rounds if one.samples.get(key)])
        for key in {key for one in rounds for key in one.samples}
    }
    shares = [
        (one.ended - one.started) / sum_s
        for one in rounds
        if (sum_s := sum(map(call_s, one.samples.values()))) > 0
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
    spent_s = done = 0.0
    for other, rounds in known:
        if _place(other.cases[0]) == _place(group.cases[0]):
            found = {key: value for key, value in _calls(rounds).items() if key in work}
            spent_s, done = spent_s + sum(found.values()), done + sum(work[key] for key in found)
    if not done or any(case.key not in work for case in group.cases):
        return {}
    return {case.key: work[case.key] * spent_s / done for case in group.cases}


def _place(case: AnyCase) -> tuple[str, int]:
    return device_kind(case.device), case.threads


def _warm_up_s(calls: Iterable[float], protocol: Protocol) -> float:
    """Seconds until cases that take so long a call are warm: as many calls and seconds as are
    asked, and two windows that agree, unless the cap comes first.
    """
    cap_s = max(protocol.warmup_cap_s, protocol.warmup_s)
    return sum(
        max(protocol.warmup_calls * one_s, protocol.warmup_s, min(2 * WINDOW * one_s, cap_s))
        for one_s in calls
    )


def _spread(group: Group, rounds: Sequence[Round], protocol: Protocol) -> float:
    """The widest row's standard deviation of a replicate's value."""
    if not group.baselines:
        return 0.0
    grouped, estimator, widest = by_replicate(rounds), protocol.estimator, 0.0
    for case in group.cases:
        for metric in (FORWARD, FORWARD_BACKWARD):
            if case.role == BASELINE:
                continue
            found = ratio_pairs(grouped, group.baselines, case.key, metric, estimator)
            replicates = [one for one in found if one]
            if len(replicates) >= ENOUGH_REPLICATES:
                values = [replicate_value(one, estimator) for one in replicates]
                widest = max(widest, statistics.stdev(values))
            elif replicates:
                logs = [math.log(variant / base) for base, variant, *_ in max(replicates, key=len)]
                within = SCATTER[estimator] * (statistics.stdev(logs) if len(logs) > 1 else 0.0)
                widest = max(widest, math.hypot(BETWEEN, within / math.sqrt(protocol.rounds)))
    return widest


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
