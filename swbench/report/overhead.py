"""How much of a run's time was spent measuring."""

from collections.abc import Iterable

from swbench.result import Result, Round, call_s
from swbench.stats.samples import Worker, by_worker


def timed_share(rounds: Iterable[Round], results: Iterable[Result] = ()) -> float | None:
    """Sum of all timed regions of a run on a CPU over the time of each worker from its first round
    on: start-up and warm-up are left out.

    A worker lasts until its last result, where `results` holds any of it, so reading out counts as
    overhead; else until the end of its last round. None without a round.
    """
    workers = by_worker(rounds)
    timed_s = sum(
        call_s(samples)
        for found in workers.values()
        for one in found
        for samples in one.samples.values()
    )
    span_s = sum(end - start for start, end in spans(rounds, results))
    return timed_s / span_s if span_s > 0 else None


def spans(rounds: Iterable[Round], results: Iterable[Result] = ()) -> list[tuple[float, float]]:
    """When each worker was past its warm-up, as (start, end) in Unix time."""
    ended: dict[Worker, float] = {}
    for one in results:
        key = (one.group, one.replicate, one.attempt)
        ended[key] = max(ended.get(key, 0.0), one.ended)
    return [
        (found[0].started, max(found[-1].ended, ended.get(key, 0.0)))
        for key, found in by_worker(rounds).items()
    ]
