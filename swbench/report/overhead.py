"""The share of a run's time that is measuring."""

from collections.abc import Iterable

from swbench.result import Result, Round, call_s
from swbench.stats.samples import Worker, by_worker


def timed_share(rounds: Iterable[Round], results: Iterable[Result] = ()) -> float | None:
    """The sum of all timed regions of a run on a CPU over the time of its workers, from the first
    round on: start-up and warm-up are left out.

    A worker's time ends with its last result, if `results` holds any, so that reading out counts as
    overhead; else with its last round. None without a round.
    """
    workers = by_worker(rounds)
    timed_s = sum(
        call_s(samples)
        for rounds_of_worker in workers.values()
        for round_ in rounds_of_worker
        for samples in round_.samples.values()
    )
    span_s = sum(end - start for start, end in spans(rounds, results))
    return timed_s / span_s if span_s > 0 else None


def spans(rounds: Iterable[Round], results: Iterable[Result] = ()) -> list[tuple[float, float]]:
    """The time of each worker after its warm-up, as (start, end) in Unix time."""
    ended: dict[Worker, float] = {}
    for result in results:
        key = (result.group, result.replicate, result.attempt)
        ended[key] = max(ended.get(key, 0.0), result.ended)
    return [
        (worker_rounds[0].started, max(worker_rounds[-1].ended, ended.get(key, 0.0)))
        for key, worker_rounds in by_worker(rounds).items()
    ]
