"""Every raw sample of a stored run with all that is known of it, in the order of the store."""

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
"""`value` is in SI units as `unit` says; `round` and `position` (in the round's order) are empty
for what is measured once a replicate; `disturbed` is the fixed rule's mark of the round, or of the
block of GPU timing.
"""


class Sample(NamedTuple):
    """One sample: four tuples of values in the order of the field names above. Samples that agree
    in one of them share the tuple.
    """

    case: tuple
    place: tuple
    sample: tuple
    outcome: tuple


def samples(run: StoredRun) -> Iterator[Sample]:
    """Rounds first, then what was measured outside them; a cell that failed before its first sample
    comes once, without a metric.
    """
    fixed = {
        (group.name, case.key): _case(run, group.name, case, label)
        for group in run.plan.groups
        for case, label in zip(group.cases, group.rows, strict=True)
    }
    outcomes = {
        (one.group, one.replicate, attempt, one.case): _outcome(one)
        for one in run.results
        for attempt in one.attempts
    }
    baselines = {group.name: group.baseline_key for group in run.plan.groups}
    seen = set()
    taken: dict[tuple[str, int], list[Round]] = {}
    for one in run.rounds:
        taken.setdefault((one.group, one.replicate), []).append(one)
    for (group, _), rounds in taken.items():
        marked = disturbed(rounds, baselines[group])
        for one in rounds:
            places = [
                (one.replicate, one.attempt, one.index, one.started, mark) for mark in (False, True)
            ]
            for position, key in enumerate(one.order):
                found = one.samples.get(key)
                if not found:
                    continue
                cell = (group, one.replicate, key)
                seen.add(cell)
                seen.update((*cell, metric) for metric in found)
                place, outcome = (
                    places[key in marked[one.place]],
                    outcomes[(group, one.replicate, one.attempt, key)],
                )
                for metric, value in found.items():
                    yield Sample(
                        fixed[group, key], place, (position, _name(metric), "s", value), outcome
                    )
    for result in run.results:
        cell = (result.group, result.replicate, result.case)
        place = (result.replicate, result.attempt, None, result.started, None)
        rest = [one for one in result.measurements if (*cell, one.metric) not in seen]
        for measurement in rest:
            for value in measurement.samples:
                yield Sample(
                    fixed[result.group, result.case],
                    place,
                    (None, _name(measurement.metric), measurement.unit, value),
                    _outcome(result),
                )
        if not rest and cell not in seen:
            yield Sample(
                fixed[result.group, result.case], place, (None, "", "", None), _outcome(result)
            )


def _name(metric: str) -> str:
    """A metric's name, which comes from a file, as one harmless word."""
    return (
        metric if metric.isidentifier() else spreadsheet(metric).replace(",", " ").replace('"', " ")
    )


def _case(run: StoredRun, group: str, case: AnyCase, label: str) -> tuple:
    height, width = case.image if isinstance(case, Case) else (None, None)
    known = {
        "run": run.id,
        "suite": run.plan.suite,
        "group": group,
        "label": label,
        "case": case.key,
        "group_size": case.group,
        "sizes": " ".join(map(str, getattr(case, "sizes", ()))) or None,
    }
    known |= {"image_height": height, "image_width": width}
    return tuple(
        known[name] if name in known else getattr(case, name, None) for name in CASE_FIELDS
    )


def _outcome(result: Result) -> tuple:
    return (
        result.status,
        result.detail or None,
        result.chosen.get("solver"),
        result.chosen.get("kernels"),
    )
