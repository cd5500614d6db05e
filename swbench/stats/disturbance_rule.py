"""The fixed rule that marks a round, or one block of GPU timing in it, as disturbed. It reads the
machine's counters, never how long a sample took.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import floor, inf
from statistics import median_low

CAP = 0.2
"""The limit of marking: at most this share of a worker's rounds, and at most this share of a
ratio's pairs (case and baseline in one round). If more rounds or blocks exceed the rule, the worst
are marked.
"""

TICK_S = 0.01
"""Resolution of /proc/stat. A counted tick can stand for less stolen time, so one tick is
subtracted.
"""

ALLOWED_SHARE = {
    "steal_s": 0.02,
    "queued_s": 0.01,
    "pressure_memory_s": 0.02,
    "pressure_io_s": 0.05,
    "pressure_cpu_s": 0.5,
    "gpu_thermal_s": 0.01,
}
"""Share of the round's wall time that each reading may take; heuristics. Losing the core for 1 % of
a round changes a sample as much as two undisturbed processes differ. CPU pressure counts every task
on the machine. Ratios measured with one thread did not move at 50 %, so only more than that counts.
"""

SWITCHES_FREE, SWITCHES_PER_S = 5.0, 20.0
"""Involuntary context switches that a round may have; kernel threads and timers alone cause a few a
second. Heuristic.
"""

FREQUENCY_DROP = 0.05
"""Share by which a core's clock may fall during a round; governors move in steps of about 3 %.
Heuristic.
"""

IDLE_SHARE, IDLE_FREE_S = 0.02, 1e-3
"""Idle time allowed in a round: twice the worker's usual idle time, plus this share of the round,
plus these seconds. The share is that of stolen time; the seconds allow for interrupts. Heuristics.
"""

WAITING = 0.5
"""Idle share from which a worker counts as waiting for a device or for other ranks. Its waiting
time is part of its samples' time, so the rule does not judge it by that. Heuristic.
"""

SUSPENDED_FREE_S = 0.01
"""Tolerance for the two clocks whose difference shows a suspend: they are read one after the other.
No suspend is as short as this.
"""

HARMFUL_THROTTLING = 0x8 | 0x20 | 0x40 | 0x80
"""NVML clock-event bits: hardware slowdown, software thermal, hardware thermal, power brake. The
power cap (0x4) is a card's normal state under load.
"""

THROTTLE_READINGS = (
    "gpu_throttle_reasons",
    "gpu_throttle_reasons_before",
    "gpu_throttle_reasons_after",
)
"""Readings with throttle bits. The first is of a whole round, in stores of schema 1; the others are
taken before and after a block.
"""


def usual_idle(disturbances: Iterable[Mapping[str, float]]) -> float:
    """A worker's usual ratio of idle time (no thread active) to active time: the lower median over
    its rounds. 0 where idle time was not read, infinite where the worker waits most of the time.

    Idle time that recurs in every round, such as waiting for a second thread or a device, belongs
    to the work. Idle time beyond that is a disturbance.
    """
    shares = [
        round_["idle_s"] / round_["wall_s"]
        for round_ in disturbances
        if "idle_s" in round_ and round_.get("wall_s", 0.0) > 0
    ]
    share = median_low(shares) if shares else 0.0
    return share / (1.0 - share) if share < WAITING else inf


def absent_s(disturbance: Mapping[str, float], usual_ratio: float = 0.0) -> float:
    """Seconds of a round in which its process should have run and did not: it was stopped or
    frozen, or the host took the core away.

    That is the wall time in which no thread ran (CPU time) or was ready to (run queue), less I/O
    pressure and the idle time that `usual_ratio` predicts. Suspended time is added, because the
    wall clock does not count it.
    """
    return _taken_s(disturbance, usual_ratio) + disturbance.get("suspended_s", 0.0)


def severity(disturbance: Mapping[str, float], usual_ratio: float = 0.0) -> float:
    """How far a round or a block exceeds the rule: the largest ratio of a reading to its limit.
    Above 1 the round or block is disturbed; missing readings count as 0. `usual_ratio` is the
    worker's `usual_idle`.
    """
    wall_s = disturbance.get("wall_s", 0.0)
    excesses = [0.0, _absence(disturbance, usual_ratio)]
    if wall_s > 0:
        for key, share in ALLOWED_SHARE.items():
            if taken_s := disturbance.get(key):
                excesses.append(
                    (taken_s - TICK_S if key == "steal_s" else taken_s) / (share * wall_s)
                )
        excesses.append(
            disturbance.get("involuntary_switches", 0.0) / (SWITCHES_FREE + SWITCHES_PER_S * wall_s)
        )
    excesses.append(2.0 * disturbance.get("major_faults", 0.0))
    excesses.append(disturbance.get("frequency_drop", 0.0) / FREQUENCY_DROP)
    excesses.append(2.0 if _throttled(disturbance) else 0.0)
    return max(excesses)


def _taken_s(disturbance: Mapping[str, float], usual_ratio: float) -> float:
    if not usual_ratio < inf:
        return 0.0
    idle_s = disturbance.get("idle_s", 0.0)
    waited_s = usual_ratio * (disturbance.get("wall_s", 0.0) - idle_s)
    return max(0.0, idle_s - waited_s - disturbance.get("pressure_io_s", 0.0))


def _absence(disturbance: Mapping[str, float], usual_ratio: float) -> float:
    """The ratio of the process's absence to its limit, above 1 if it exceeds the limit.

    Idle seconds less the usual ones and I/O may be `IDLE_SHARE` of the wall time, plus the usual
    idle seconds, plus `IDLE_FREE_S`. Suspended seconds have a limit of their own.
    """
    wall_s, idle_s = disturbance.get("wall_s", 0.0), disturbance.get("idle_s", 0.0)
    suspended = disturbance.get("suspended_s", 0.0) / SUSPENDED_FREE_S
    taken_s = _taken_s(disturbance, usual_ratio)
    if not taken_s:
        return suspended
    return max(
        suspended, taken_s / (IDLE_SHARE * wall_s + usual_ratio * (wall_s - idle_s) + IDLE_FREE_S)
    )


def absences(disturbances: Sequence[Mapping[str, float]]) -> tuple[float, ...]:
    """Seconds of absence of one worker, for each of its rounds in which the absence alone exceeds
    the rule.
    """
    usual_ratio = usual_idle(disturbances)
    return tuple(
        absent_s(round_, usual_ratio)
        for round_ in disturbances
        if _absence(round_, usual_ratio) > 1.0
    )


def _throttled(readings: Mapping[str, float]) -> bool:
    return any(int(readings.get(name, 0)) & HARMFUL_THROTTLING for name in THROTTLE_READINGS)


def exceeds_rule(disturbance: Mapping[str, float], usual_ratio: float = 0.0) -> bool:
    """Whether the rule calls a round disturbed, before the cap. `usual_ratio` is the worker's
    `usual_idle`.
    """
    return severity(disturbance, usual_ratio) > 1.0


def marked_rounds(disturbances: Sequence[Mapping[str, float]]) -> frozenset[int]:
    """The positions of the marked rounds of one worker: those that exceed the rule, the worst
    first, at most a share of `CAP` of all rounds.

    Rounds in which the worker was absent come before all others, because the full absence is part
    of the samples, while context switches, for example, cost little each.
    """
    usual_ratio = usual_idle(disturbances)
    judged_rounds = [
        (_absence(round_, usual_ratio) > 1.0, severity(round_, usual_ratio), position)
        for position, round_ in enumerate(disturbances)
    ]
    over = sorted(
        (round_ for round_ in judged_rounds if round_[1] > 1.0),
        key=lambda round_: (not round_[0], -round_[1], round_[2]),
    )
    return frozenset(position for *_, position in over[: floor(CAP * len(disturbances))])


def block_marks(
    disturbances: Sequence[Mapping[str, float]],
    blocks: Sequence[Mapping[str, Mapping[str, float]]],
    baseline: str | None,
) -> tuple[frozenset[str], ...]:
    """Return, for each round of one worker, the cases whose block is marked. `disturbances` has the
    readings of each round, `blocks` those of each block by case.

    In a marked round all cases with readings are marked. Of the other blocks those that exceed the
    rule are marked, the worst first, as long as no ratio to `baseline` loses more than a share of
    `CAP` of its pairs. A marked block removes one pair from the ratio of its case; one of the
    baseline removes a pair from every ratio.
    """
    rounds = marked_rounds(disturbances)
    marked_cases = [
        set(readings) if position in rounds else set() for position, readings in enumerate(blocks)
    ]
    lost = [set(keys) for keys in marked_cases]  # the cases that lose their pair of that round
    compared = any(baseline in readings for readings in blocks)
    pairs = Counter(
        case for readings in blocks if baseline in readings or not compared for case in readings
    )
    pairs_left = {
        case: floor(CAP * count) - sum(case in keys for keys in lost)
        for case, count in pairs.items()
    }
    candidates = [
        (severity(block), position, case)
        for position, readings in enumerate(blocks)
        if position not in rounds
        for case, block in readings.items()
    ]
    for _, position, case in sorted(
        (excess for excess in candidates if excess[0] > 1.0),
        key=lambda excess: (-excess[0], *excess[1:]),
    ):
        costs = (set(blocks[position]) if case == baseline else {case}) - lost[position]
        if all(pairs_left.get(key, 0) > 0 for key in costs):
            marked_cases[position].add(case)
            lost[position] |= costs
            pairs_left.update({key: pairs_left[key] - 1 for key in costs})
    return tuple(map(frozenset, marked_cases))


def _rounds_over(worker: Sequence[Mapping[str, float]]) -> int:
    """The number of a worker's rounds that exceed the rule."""
    usual_ratio = usual_idle(worker)
    return sum(exceeds_rule(round_, usual_ratio) for round_ in worker)


def quietness(
    workers: Sequence[Sequence[Mapping[str, float]]], blocks: Iterable[Mapping[str, float]] = ()
) -> str:
    """One line about how quiet the machine was. `workers` holds for each worker the disturbances of
    its rounds, `blocks` the readings around every block.
    """
    rounds = [round_ for worker in workers for round_ in worker]
    wall_s = sum(round_.get("wall_s", 0.0) for round_ in rounds)
    if not wall_s:
        return "machine: not observed"
    exceeding = [(_rounds_over(worker), floor(CAP * len(worker))) for worker in workers]
    over, marked_count = (
        sum(count for count, _ in exceeding),
        sum(min(count, most) for count, most in exceeding),
    )
    share = over / len(rounds)
    word = "quiet" if share <= 0.05 else "somewhat disturbed" if share <= CAP else "busy"
    parts = [
        f"machine {word}: {over} of {len(rounds)} rounds disturbed"
        + (f", {marked_count} marked (at most {CAP:.0%})" if marked_count < over else "")
    ]
    for key, label in (
        ("steal_s", "steal"),
        ("pressure_cpu_s", "CPU pressure"),
        ("pressure_io_s", "I/O pressure"),
        ("queued_s", "waiting for a core"),
    ):
        if any(key in round_ for round_ in rounds):
            parts.append(
                f"{label} {100 * sum(round_.get(key, 0.0) for round_ in rounds) / wall_s:.1f} %"
            )
    if absent := [seconds for worker in workers for seconds in absences(worker)]:
        parts.append(f"not running in {len(absent)} rounds, up to {max(absent):.2g} s")
    if any("busy_s" in round_ for round_ in rounds):
        others = (
            sum(round_.get("busy_s", 0.0) - round_.get("own_cpu_s", 0.0) for round_ in rounds)
            / wall_s
        )
        parts.append(f"other programs {max(0.0, others):.1f} cores")
    parts.append(
        f"{sum(round_.get('involuntary_switches', 0.0) for round_ in rounds) / wall_s:.1f} "
        "involuntary switches/s"
    )
    if any(map(exceeds_rule, blocks)) or any(map(_throttled, rounds)):
        parts.append("GPU throttled")
    return ", ".join(parts)
