"""Every sample of a stored run with its case, place and outcome, in the order of the store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from swbench.case import AnyCase, Case
from swbench.report.escaping import spreadsheet
from swbench.result import Result, Round
from swbench.stats.samples import disturbed

if TYPE_CHECKING:
    from swbench.store import StoredRun

CASE_FIELDS = (
    *(
        "run",
        "suite",
        "group",
        "label",
        "role",
        "case",
        "kind",
        "model",
        "norm",
        "layers",
        "solver",
        "group_size",
        "classes",
    ),
    *(
        "image_height",
        "image_width",
        "batch",
        "device",
        "dtype",
        "mode",
        "layout",
        "threads",
        "world",
        "nodes",
        "spectrum",
        "cache",
        "trial",
        "root",
        "sizes",
    ),
)
PLACE_FIELDS = ("replicate", "attempt", "round", "started_unix_s", "disturbed")
SAMPLE_FIELDS = ("position", "metric", "unit", "value")
OUTCOME_FIELDS = ("status", "detail", "solver_chosen", "kernels_chosen")
COLUMNS = (*CASE_FIELDS, *PLACE_FIELDS, *SAMPLE_FIELDS, *OUTCOME_FIELDS)
"""Columns of the long format. `value` is in SI units, named by `unit`. `round` and `position` (in
the round's order) are empty for values that are measured once a replicate. `disturbed` is the fixed
rule's mark on the round, or on the block of GPU timing.
"""


class Sample(NamedTuple):
    """One sample: four tuples of values in the order of the field names above. Samples with an
    equal tuple share it.
    """

    case: tuple
    place: tuple
    sample: tuple
    outcome: tuple


def samples(run: StoredRun) -> Iterator[Sample]:
    """All samples: first those of rounds, then those measured outside of rounds. A cell that failed
    before its first sample comes once, without a metric.
    """
    fixed = {
        (group.name, case.key): _case(run, group.name, case, label)
        for group in run.plan.groups
        for case, label in zip(group.cases, group.rows, strict=True)
    }
    outcomes = {
        (result.group, result.replicate, attempt, result.case): _outcome(result)
        for result in run.results
        for attempt in result.attempts
    }
    baselines = {group.name: group.baseline_key for group in run.plan.groups}
    seen = set()
    taken: dict[tuple[str, int], list[Round]] = {}
    for round_ in run.rounds:
        taken.setdefault((round_.group, round_.replicate), []).append(round_)
    for (group, _), rounds in taken.items():
        marked = disturbed(rounds, baselines[group])
        for round_ in rounds:
            places = [
                (round_.replicate, round_.attempt, round_.index, round_.started, mark)
                for mark in (False, True)
            ]
            for position, key in enumerate(round_.order):
                metrics = round_.samples.get(key)
                if not metrics:
                    continue
                cell = (group, round_.replicate, key)
                seen.add(cell)
                seen.update((*cell, metric) for metric in metrics)
                place, outcome = (
                    places[key in marked[round_.place]],
                    outcomes[(group, round_.replicate, round_.attempt, key)],
                )
                for metric, value in metrics.items():
                    yield Sample(
                        fixed[group, key],
                        place,
                        (position, _metric_name(metric), "s", value),
                        outcome,
                    )
    for result in run.results:
        cell = (result.group, result.replicate, result.case)
        place = (result.replicate, result.attempt, None, result.started, None)
        once_measured = [
            measurement
            for measurement in result.measurements
            if (*cell, measurement.metric) not in seen
        ]
        for measurement in once_measured:
            for value in measurement.samples:
                yield Sample(
                    fixed[result.group, result.case],
                    place,
                    (None, _metric_name(measurement.metric), measurement.unit, value),
                    _outcome(result),
                )
        if not once_measured and cell not in seen:
            yield Sample(
                fixed[result.group, result.case], place, (None, "", "", None), _outcome(result)
            )


def _metric_name(metric: str) -> str:
    """A metric's name, which comes from a file, as one word without special characters."""
    return (
        metric if metric.isidentifier() else spreadsheet(metric).replace(",", " ").replace('"', " ")
    )


def _case(run: StoredRun, group: str, case: AnyCase, label: str) -> tuple:
    height, width = case.image if isinstance(case, Case) else (None, None)
    values = {
        "run": run.id,
        "suite": run.plan.suite,
        "group": group,
        "label": label,
        "case": case.key,
        "group_size": case.group,
        "sizes": " ".join(map(str, getattr(case, "sizes", ()))) or None,
    }
    values |= {"image_height": height, "image_width": width}
    return tuple(
        values[name] if name in values else getattr(case, name, None) for name in CASE_FIELDS
    )


def _outcome(result: Result) -> tuple:
    return (
        result.status,
        result.detail or None,
        result.chosen.get("solver"),
        result.chosen.get("kernels"),
    )
