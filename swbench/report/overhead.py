"""How much of a run's time was spent measuring."""

from collections import defaultdict
from collections.abc import Iterable

from swbench.result import Round


def timed_share(rounds: Iterable[Round]) -> float | None:
    """Sum of all timed regions over the time from the first to the last round of each worker, start-up and warm-up left out.

    The end of a worker's last round is its start plus the wall time of its disturbance readings, and the sum of its samples where these
    lack it. None without a round.
    """
    workers: dict[tuple[str, int, str], list[Round]] = defaultdict(list)
    for one in rounds:
        workers[one.group, one.replicate, one.attempt].append(one)
    timed_s = span_s = 0.0
    for found in workers.values():
        found.sort(key=lambda one: one.index)
        timed_s += sum(_timed(one) for one in found)
        span_s += found[-1].started - found[0].started + found[-1].disturbance.get("wall_s", _timed(found[-1]))
    return timed_s / span_s if span_s > 0 else None


def _timed(one: Round) -> float:
    """Seconds of the timed regions of a round: F lies within F+B, so the longest sample of each case counts."""
    return sum(max(samples.values()) for samples in one.samples.values() if samples)
