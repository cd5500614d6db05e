"""The fixed rule that marks a round, or one block of GPU timing in it, as disturbed. It reads what
the machine did, never how long a sample took.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import floor, inf
from statistics import median_low

CAP = 0.2
"""At most this share of a worker's rounds is marked, and of the pairs of a ratio lost to blocks;
where more exceed the rule, those that exceed it most.
"""

TICK_S = 0.01
"""Grain of /proc/stat: one stolen tick may be a fraction of one."""

ALLOWED_SHARE = {
    "steal_s": 0.02,
    "queued_s": 0.01,
    "pressure_memory_s": 0.02,
    "pressure_io_s": 0.05,
    "pressure_cpu_s": 0.5,
    "gpu_thermal_s": 0.01,
}
"""Share of the round's wall time that each may take; heuristics. 1 % off the core moves a sample by
as much as two quiet processes differ. CPU pressure counts any task on the machine, and pairs taken
with one thread held their ratio at 50 %, so only more than that counts.
"""

SWITCHES_FREE, SWITCHES_PER_S = 5.0, 20.0
"""Involuntary switches a round may have; kernel threads and timers alone cause a few a second.
Heuristic.
"""

FREQUENCY_DROP = 0.05
"""Share by which a core's clock may fall during a round; governors move in steps of about 3 %.
Heuristic.
"""

IDLE_SHARE, IDLE_FREE_S = 0.02, 1e-3
"""Share of a round, and seconds, in which no thread of the worker need run or be ready to run,
beyond what is usual for it: as with stolen time, and interrupts take some. Heuristics.
"""

WAITING = 0.5
"""A worker none of whose threads is active for this share of its time waits for a device or for
other ranks. How long it waits is how long its samples took, so it is not judged by that. Heuristic.
"""

SUSPENDED_FREE_S = 0.01
"""The clocks that a suspended machine shows by are read in turn; no suspend is as short as this."""

HARMFUL_THROTTLING = 0x8 | 0x20 | 0x40 | 0x80
"""NVML clock-event bits: hardware slowdown, software thermal, hardware thermal, power brake. The
power cap (0x4) is a card's normal state under load.
"""

THROTTLE_READINGS = (
    "gpu_throttle_reasons",
    "gpu_throttle_reasons_before",
    "gpu_throttle_reasons_after",
)
"""Joined for a round, as stores of schema 1 have it, and at both ends of a block."""


def usual_idle(disturbances: Iterable[Mapping[str, float]]) -> float:
    """How many seconds none of a worker's threads is active for each that one is, as a rule: the
    lower median over its rounds. 0 where it was not read, infinite where it waits most of its time.

    What waits in every round, for a second thread to wake or a device, is the work's own. What a
    round has beyond that was taken from it.
    """
    shares = [
        one["idle_s"] / one["wall_s"]
        for one in disturbances
        if "idle_s" in one and one.get("wall_s", 0.0) > 0
    ]
    share = median_low(shares) if shares else 0.0
    return share / (1.0 - share) if share < WAITING else inf


def absent_s(disturbance: Mapping[str, float], usual: float = 0.0) -> float:
    """Seconds of a round in which its process did not run and was not to: stopped, frozen, or on a
    core that the host took away.

    That is wall time in which no thread ran (CPU time) or was ready to (waiting in the run queue),
    less the machine's waiting for disks and what is `usual`. Time of a suspend comes on top, for
    the wall clock does not count it.
    """
    return _taken_s(disturbance, usual) + disturbance.get("suspended_s", 0.0)


def severity(disturbance: Mapping[str, float], usual: float = 0.0) -> float:
    """How far a round or a block exceeds the rule: the largest reading over what is allowed of it.
    Above 1 is disturbed; missing readings count as 0. `usual` is the worker's `usual_idle`.
    """
    wall_s = disturbance.get("wall_s", 0.0)
    found = [0.0, _absence(disturbance, usual)]
    if wall_s > 0:
        for key, share in ALLOWED_SHARE.items():
            if taken_s := disturbance.get(key):
                found.append((taken_s - TICK_S if key == "steal_s" else taken_s) / (share * wall_s))
        found.append(
            disturbance.get("involuntary_switches", 0.0) / (SWITCHES_FREE + SWITCHES_PER_S * wall_s)
        )
    found.append(2.0 * disturbance.get("major_faults", 0.0))
    found.append(disturbance.get("frequency_drop", 0.0) / FREQUENCY_DROP)
    found.append(2.0 if _throttled(disturbance) else 0.0)
    return max(found)


def _taken_s(disturbance: Mapping[str, float], usual: float) -> float:
    if not usual < inf:
        return 0.0
    idle_s = disturbance.get("idle_s", 0.0)
    waited_s = usual * (disturbance.get("wall_s", 0.0) - idle_s)
    return max(0.0, idle_s - waited_s - disturbance.get("pressure_io_s", 0.0))


def _absence(disturbance: Mapping[str, float], usual: float) -> float:
    """The process's absence over what is allowed: the share, and as much again as is usual."""
    wall_s, idle_s = disturbance.get("wall_s", 0.0), disturbance.get("idle_s", 0.0)
    suspended = disturbance.get("suspended_s", 0.0) / SUSPENDED_FREE_S
    taken_s = _taken_s(disturbance, usual)
    if not taken_s:
        return suspended
    return max(suspended, taken_s / (IDLE_SHARE * wall_s + usual * (wall_s - idle_s) + IDLE_FREE_S))


def absences(disturbances: Sequence[Mapping[str, float]]) -> tuple[float, ...]:
    """The seconds for which one worker was absent, of each of its rounds in which that alone
    exceeds the rule.
    """
    usual = usual_idle(disturbances)
    return tuple(absent_s(one, usual) for one in disturbances if _absence(one, usual) > 1.0)


def _throttled(readings: Mapping[str, float]) -> bool:
    return any(int(readings.get(name, 0)) & HARMFUL_THROTTLING for name in THROTTLE_READINGS)


def marked(disturbance: Mapping[str, float], usual: float = 0.0) -> bool:
    """Whether the rule calls a round disturbed, before the cap. `usual` is the worker's
    `usual_idle`.
    """
    return severity(disturbance, usual) > 1.0


def marks(disturbances: Sequence[Mapping[str, float]]) -> frozenset[int]:
    """The positions of the marked rounds of one worker: those over the rule, at most `CAP` of them
    all, the worst first.

    Rounds in which the worker was absent come before all others, for that time is in the samples
    to the full, while many switches, say, cost little each.
    """
    usual = usual_idle(disturbances)
    found = [
        (_absence(one, usual) > 1.0, severity(one, usual), position)
        for position, one in enumerate(disturbances)
    ]
    over = sorted(
        (one for one in found if one[1] > 1.0), key=lambda one: (not one[0], -one[1], one[2])
    )
    return frozenset(position for *_, position in over[: floor(CAP * len(disturbances))])


def block_marks(
    disturbances: Sequence[Mapping[str, float]],
    blocks: Sequence[Mapping[str, Mapping[str, float]]],
    baseline: str | None,
) -> tuple[frozenset[str], ...]:
    """For each round of one worker the cases whose block is marked, from the rounds' disturbances
    and their readings by case.

    In a marked round these are all that have readings. Of the other blocks those over the rule, the
    worst first, as long as no ratio to `baseline` loses more than `CAP` of its pairs: a block of a
    case costs that case's ratio a pair, one of the baseline every ratio.
    """
    rounds = marks(disturbances)
    found = [
        set(readings) if position in rounds else set() for position, readings in enumerate(blocks)
    ]
    lost = [set(keys) for keys in found]  # the cases whose pair of that round is spoilt
    compared = any(baseline in readings for readings in blocks)
    pairs = Counter(
        case for readings in blocks if baseline in readings or not compared for case in readings
    )
    left = {
        case: floor(CAP * count) - sum(case in keys for keys in lost)
        for case, count in pairs.items()
    }
    every = [
        (severity(its), position, case)
        for position, readings in enumerate(blocks)
        if position not in rounds
        for case, its in readings.items()
    ]
    for _, position, case in sorted(
        (one for one in every if one[0] > 1.0), key=lambda one: (-one[0], *one[1:])
    ):
        costs = (set(blocks[position]) if case == baseline else {case}) - lost[position]
        if all(left.get(one, 0) > 0 for one in costs):
            found[position].add(case)
            lost[position] |= costs
            left.update({one: left[one] - 1 for one in costs})
    return tuple(map(frozenset, found))


def _over(worker: Sequence[Mapping[str, float]]) -> int:
    """How many rounds of a worker exceed the rule."""
    usual = usual_idle(worker)
    return sum(marked(one, usual) for one in worker)


def quietness(
    workers: Sequence[Sequence[Mapping[str, float]]], blocks: Iterable[Mapping[str, float]] = ()
) -> str:
    """One line that says how quiet the machine was, from the disturbances of every round, a list a
    worker, and the readings around every block.
    """
    every = [one for worker in workers for one in worker]
    wall_s = sum(one.get("wall_s", 0.0) for one in every)
    if not wall_s:
        return "machine: not observed"
    exceeding = [(_over(worker), floor(CAP * len(worker))) for worker in workers]
    over, put_aside = (
        sum(found for found, _ in exceeding),
        sum(min(found, most) for found, most in exceeding),
    )
    share = over / len(every)
    word = "quiet" if share <= 0.05 else "somewhat disturbed" if share <= CAP else "busy"
    parts = [
        f"machine {word}: {over} of {len(every)} rounds disturbed"
        + (f", {put_aside} marked (at most {CAP:.0%})" if put_aside < over else "")
    ]
    for key, label in (
        ("steal_s", "steal"),
        ("pressure_cpu_s", "CPU pressure"),
        ("pressure_io_s", "I/O pressure"),
        ("queued_s", "waiting for a core"),
    ):
        if any(key in one for one in every):
            parts.append(f"{label} {100 * sum(one.get(key, 0.0) for one in every) / wall_s:.1f} %")
    if absent := [seconds for worker in workers for seconds in absences(worker)]:
        parts.append(f"not running in {len(absent)} rounds, up to {max(absent):.2g} s")
    if any("busy_s" in one for one in every):
        others = sum(one.get("busy_s", 0.0) - one.get("own_cpu_s", 0.0) for one in every) / wall_s
        parts.append(f"other programs {max(0.0, others):.1f} cores")
    parts.append(
        f"{sum(one.get('involuntary_switches', 0.0) for one in every) / wall_s:.1f} "
        "involuntary switches/s"
    )
    if any(map(marked, blocks)) or any(map(_throttled, every)):
        parts.append("GPU throttled")
    return ", ".join(parts)
