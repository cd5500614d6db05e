"""From rounds to samples: the pairs a ratio is taken of, the seconds of one cell, and the rounds
left when disturbed ones are put aside.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from swbench.plan import Group
from swbench.result import Round
from swbench.stats.disturbance_rule import block_marks, marks
from swbench.stats.estimators import MEDIAN, POOLED, Pair
from swbench.stats.intervals import Interval, log_ratio

Worker = tuple[str, int, str]
"""Group, replicate, and the name of one of its worker runs."""


def by_replicate(rounds: Iterable[Round]) -> list[list[Round]]:
    """The rounds of one group, a list a replicate, both in order."""
    kept: dict[int, list[Round]] = {}
    for one in rounds:
        kept.setdefault(one.replicate, []).append(one)
    return [sorted(kept[replicate], key=lambda one: one.index) for replicate in sorted(kept)]


def pairs(rounds: Iterable[Round], baseline: str, variant: str, metric: str) -> list[list[Pair]]:
    """(baseline_s, variant_s) of every round that has both, a list a replicate: what `log_ratio`
    takes.

    `rounds` are those of one group and of sealed attempts; `baseline` and `variant` are case keys.
    """
    return pairs_of(by_replicate(rounds), baseline, variant, metric)


def pairs_of(
    replicates: Iterable[Iterable[Round]], baseline: str, variant: str, metric: str
) -> list[list[Pair]]:
    """`pairs` of rounds that are grouped already: a table asks for the pairs of many cases of one
    group.
    """
    return [
        _times(_having(replicate, (baseline, variant), metric), (baseline, variant), metric)
        for replicate in replicates
    ]


def ratio_pairs(
    replicates: Iterable[Iterable[Round]],
    baselines: Sequence[str],
    variant: str,
    metric: str,
    estimator: str,
) -> list[list[Pair]]:
    """What `log_ratio` takes for a ratio by `estimator`: `pairs_of`, with the times of the control
    where the estimator pools it with the baseline and every round of the process has it.

    `baselines` are the keys of the baseline and of the control, if there is one; the control itself
    is compared with the baseline alone.
    """
    baseline, *controls = baselines
    pooled = controls if estimator in POOLED and variant not in controls else []
    found = []
    for replicate in replicates:
        rounds = _having(replicate, (baseline, variant), metric)
        every = len(_having(rounds, pooled, metric)) == len(rounds)
        found.append(_times(rounds, (baseline, variant, *(pooled if every else ())), metric))
    return found


def _having(rounds: Iterable[Round], cases: Sequence[str], metric: str) -> list[Round]:
    return [one for one in rounds if all(metric in one.samples.get(case, ()) for case in cases)]


def _times(rounds: Iterable[Round], cases: Sequence[str], metric: str) -> list[Pair]:
    return [tuple(one.samples[case][metric] for case in cases) for one in rounds]


def seconds(rounds: Iterable[Round], case: str, metric: str) -> list[list[float]]:
    """The samples of one case key, a list a replicate: what `absolute` takes."""
    return seconds_of(by_replicate(rounds), case, metric)


def seconds_of(replicates: Iterable[Iterable[Round]], case: str, metric: str) -> list[list[float]]:
    """`seconds` of rounds that are grouped already."""
    return [
        [one.samples[case][metric] for one in replicate if metric in one.samples.get(case, ())]
        for replicate in replicates
    ]


def by_worker(rounds: Iterable[Round]) -> dict[Worker, list[Round]]:
    """The rounds of each worker process, in order; a replicate has several where cases are paired
    one by one.
    """
    kept: dict[Worker, list[Round]] = {}
    for one in rounds:
        kept.setdefault((one.group, one.replicate, one.attempt), []).append(one)
    return {worker: sorted(found, key=lambda one: one.index) for worker, found in kept.items()}


def disturbed(
    rounds: Iterable[Round], baseline: str | None
) -> dict[tuple[int, str, int], frozenset[str]]:
    """The case keys whose samples the fixed rule marks, by the `place` of a round of one group: all
    of a marked round, of another those of marked blocks.

    `baseline` is a case key too. The rule looks at each worker by itself: its cap is for the rounds
    of a row, and a row that is paired has those of one worker.
    """
    found = {}
    for worker in by_worker(rounds).values():
        disturbances = [one.disturbance for one in worker]
        marked = marks(disturbances)
        blocks = (
            block_marks(disturbances, [one.blocks for one in worker], baseline)
            if any(one.blocks for one in worker)
            else None
        )
        for position, one in enumerate(worker):
            found[one.place] = (
                frozenset(one.samples)
                if position in marked
                else blocks[position]
                if blocks
                else frozenset()
            )
    return found


def undisturbed(rounds: Sequence[Round], baseline: str | None) -> list[Round]:
    """The rounds of one group without the samples that the fixed rule marks: of a worker at most a
    fifth of the pairs with `baseline`, a case key.
    """
    kept, found = [], disturbed(rounds, baseline)
    for one in rounds:
        marked = found[one.place]
        calm = (
            {key: samples for key, samples in one.samples.items() if key not in marked}
            if marked
            else one.samples
        )
        if calm:
            kept.append(one if calm is one.samples else replace(one, samples=calm))
    return kept


def noise_floor(
    rounds: Sequence[Round],
    group: Group,
    metric: str,
    confidence: float = 0.95,
    estimator: str = MEDIAN,
) -> Interval | None:
    """The A/A interval: the control against the baseline. None where the group has no control or it
    was not measured.

    Of each replicate one process counts, the first with both, as one process gives each row its
    ratio: where rows are paired one by one the control was in many, and their median would vary
    less than any row's does.
    """
    if len(group.baselines) < 2:
        return None
    replicates: dict[int, list[Pair]] = {}
    for (_, replicate, _), worker in by_worker(rounds).items():
        (found,) = pairs_of([worker], *group.baselines, metric)
        if found:
            replicates.setdefault(replicate, found)
    if not replicates:
        return None
    return log_ratio(list(replicates.values()), confidence, estimator)
