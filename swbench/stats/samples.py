"""Samples from rounds: the pairs of a ratio, the seconds of one cell, and the rounds without
disturbed samples.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from swbench.plan import Group
from swbench.result import FORWARD, FORWARD_BACKWARD, Round
from swbench.stats.disturbance_rule import block_marks, marked_rounds
from swbench.stats.estimators import MEDIAN, POOLED, Pair
from swbench.stats.intervals import Interval, log_ratio

Worker = tuple[str, int, str]
"""The name of a worker process: (group, replicate, attempt)."""


def by_replicate(rounds: Iterable[Round]) -> list[list[Round]]:
    """The rounds of one group, a list for each replicate, both in order."""
    by_number: dict[int, list[Round]] = {}
    for round_ in rounds:
        by_number.setdefault(round_.replicate, []).append(round_)
    return [
        sorted(by_number[replicate], key=lambda round_: round_.index)
        for replicate in sorted(by_number)
    ]


def pairs(rounds: Iterable[Round], baseline: str, variant: str, metric: str) -> list[list[Pair]]:
    """(baseline_s, variant_s) of every round that has both, a list for each replicate, as
    `log_ratio` takes them.

    `rounds` are those of one group and of sealed attempts; `baseline` and `variant` are case keys.
    """
    return pairs_of(by_replicate(rounds), baseline, variant, metric)


def pairs_of(
    replicates: Iterable[Iterable[Round]], baseline: str, variant: str, metric: str
) -> list[list[Pair]]:
    """`pairs` of rounds that are grouped by replicate already, for tables that need the pairs of
    many cases of one group.
    """
    return [
        _times(_rounds_with(replicate, (baseline, variant), metric), (baseline, variant), metric)
        for replicate in replicates
    ]


def ratio_pairs(
    replicates: Iterable[Iterable[Round]],
    baselines: Sequence[str],
    variant: str,
    metric: str,
    estimator: str,
) -> list[list[Pair]]:
    """Pairs for `log_ratio` with `estimator`: those of `pairs_of`, with the control's times as
    third where the estimator pools it with the baseline and every round of the process has it.

    `baselines` are the keys of the baseline and of the control, if there is one. The control itself
    is compared with the baseline alone.
    """
    baseline, *controls = baselines
    pooled = controls if estimator in POOLED and variant not in controls else []
    pairs_by_replicate = []
    for replicate in replicates:
        rounds = _rounds_with(replicate, (baseline, variant), metric)
        all_have_control = len(_rounds_with(rounds, pooled, metric)) == len(rounds)
        pairs_by_replicate.append(
            _times(rounds, (baseline, variant, *(pooled if all_have_control else ())), metric)
        )
    return pairs_by_replicate


def pairs_of_rows(
    replicates: Sequence[Iterable[Round]], group: Group, estimator: str
) -> dict[tuple[str, str], list[list[Pair]]]:
    """`ratio_pairs` of every case of `group` but the baseline, by case and metric. Empty for a
    group without a baseline.
    """
    if not group.baselines:
        return {}
    return {
        (case.key, metric): ratio_pairs(replicates, group.baselines, case.key, metric, estimator)
        for case in group.cases
        if case.key != group.baselines[0]
        for metric in (FORWARD, FORWARD_BACKWARD)
    }


def _rounds_with(rounds: Iterable[Round], cases: Sequence[str], metric: str) -> list[Round]:
    return [
        round_ for round_ in rounds if all(metric in round_.samples.get(case, ()) for case in cases)
    ]


def _times(rounds: Iterable[Round], cases: Sequence[str], metric: str) -> list[Pair]:
    return [tuple(round_.samples[case][metric] for case in cases) for round_ in rounds]


def seconds(rounds: Iterable[Round], case: str, metric: str) -> list[list[float]]:
    """Seconds of one case key, a list for each replicate, as `absolute` takes them."""
    return seconds_of(by_replicate(rounds), case, metric)


def seconds_of(replicates: Iterable[Iterable[Round]], case: str, metric: str) -> list[list[float]]:
    """`seconds` of rounds that are grouped already."""
    return [
        [
            round_.samples[case][metric]
            for round_ in replicate
            if metric in round_.samples.get(case, ())
        ]
        for replicate in replicates
    ]


def by_worker(rounds: Iterable[Round]) -> dict[Worker, list[Round]]:
    """The rounds of each worker process, in order. A replicate has several workers where each case
    runs in a process of its own with the baseline.
    """
    by_worker_key: dict[Worker, list[Round]] = {}
    for round_ in rounds:
        by_worker_key.setdefault((round_.group, round_.replicate, round_.attempt), []).append(
            round_
        )
    return {
        worker: sorted(worker_rounds, key=lambda round_: round_.index)
        for worker, worker_rounds in by_worker_key.items()
    }


def disturbed(
    rounds: Iterable[Round], baseline: str | None
) -> dict[tuple[int, str, int], frozenset[str]]:
    """The case keys whose samples the fixed rule marks, by the `place` of each round of one group:
    all cases of a marked round, else those of marked blocks.

    `baseline` is a case key. The rule judges each worker by itself: its cap holds for the rounds of
    a row, and a row that is paired with the baseline has the rounds of one worker.
    """
    marked_cases = {}
    for worker in by_worker(rounds).values():
        disturbances = [round_.disturbance for round_ in worker]
        positions = marked_rounds(disturbances)
        blocks = (
            block_marks(disturbances, [round_.blocks for round_ in worker], baseline)
            if any(round_.blocks for round_ in worker)
            else None
        )
        for position, round_ in enumerate(worker):
            marked_cases[round_.place] = (
                frozenset(round_.samples)
                if position in positions
                else blocks[position]
                if blocks
                else frozenset()
            )
    return marked_cases


def undisturbed(rounds: Sequence[Round], baseline: str | None) -> list[Round]:
    """The rounds of one group without the samples that the fixed rule marks. Each worker loses at
    most a fifth of its pairs with `baseline`, a case key.
    """
    remaining, marked_cases = [], disturbed(rounds, baseline)
    for round_ in rounds:
        cases = marked_cases[round_.place]
        samples_left = (
            {key: samples for key, samples in round_.samples.items() if key not in cases}
            if cases
            else round_.samples
        )
        if samples_left:
            remaining.append(
                round_ if samples_left is round_.samples else replace(round_, samples=samples_left)
            )
    return remaining


def noise_floor(
    rounds: Sequence[Round],
    group: Group,
    metric: str,
    confidence: float = 0.95,
    estimator: str = MEDIAN,
) -> Interval | None:
    """The A/A interval: the control against the baseline. None where the group has no control or it
    was not measured.

    One process of each replicate counts, the first with both cases, because each row's ratio comes
    from one process too. Where rows are paired with the baseline one by one, the control ran in
    many processes, and their median would vary less than any row's ratio.
    """
    if len(group.baselines) < 2:
        return None
    replicates: dict[int, list[Pair]] = {}
    for (_, replicate, _), worker in by_worker(rounds).items():
        (worker_pairs,) = pairs_of([worker], *group.baselines, metric)
        if worker_pairs:
            replicates.setdefault(replicate, worker_pairs)
    if not replicates:
        return None
    return log_ratio(list(replicates.values()), confidence, estimator)
