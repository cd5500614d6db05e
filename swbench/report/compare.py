"""Two runs side by side: cells matched by their key, the ratio between them with its interval, and
a verdict a regression gate can use.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from swbench.case import BASELINE
from swbench.errors import UnlikeEnvironments
from swbench.plan import MEDIAN
from swbench.report.cautions import absence_words
from swbench.report.comparison import (
    FAILED,
    NOT_COMPARABLE,
    NOT_GATED,
    RELATIVE,
    SECONDS,
    Compared,
    Comparison,
)
from swbench.report.run_summary import Measured, MeasuredRun, is_control
from swbench.result import FAILURES, FORWARD, FORWARD_BACKWARD, OK
from swbench.stats.estimators import replicate_value
from swbench.stats.intervals import Interval
from swbench.stats.samples import by_replicate, ratio_pairs, seconds
from swbench.stats.two_runs import Difference, gate_verdict, holm
from swbench.stats.verdict import verdict

if TYPE_CHECKING:
    from swbench.store import StoredRun


def compare(
    a: StoredRun,
    b: StoredRun,
    *,
    differences: Sequence[str],
    cross_machine: bool = False,
    threshold: float = 0.0,
    basis: str = RELATIVE,
) -> Comparison:
    """Compare run B with run A, cell by cell.

    `differences` is `unlike(a.environment, b.environment)`; where it is not empty this raises
    UnlikeEnvironments, unless `cross_machine` allows it, and then seconds are not comparable.
    `basis` is `ratio` (to each run's own baseline; the baseline itself in seconds, not gated) or
    `seconds`. A cell or metric that one run lacks, or that failed in one, is `not comparable`.
    """
    if differences and not cross_machine:
        shown = "; ".join(differences[:4]) + (
            f"; and {len(differences) - 4} more" if len(differences) > 4 else ""
        )
        raise UnlikeEnvironments(
            f"{a.id} and {b.id} come from unlike environments ({shown}). Say "
            "--cross-machine to compare their ratios all the same."
        )
    first, second = MeasuredRun(a), MeasuredRun(b)
    confidence = min(first.confidence, second.confidence)
    rows = _gated(_rows(first, second, confidence, basis, bool(differences)), threshold)
    return Comparison(
        a.id,
        b.id,
        rows,
        tuple(differences),
        threshold,
        confidence,
        basis,
        tuple(_warnings(first, second)),
    )


def _gated(rows: Iterable[Compared], threshold: float) -> tuple[Compared, ...]:
    """The rows with what the gate says of each among all that count for it."""
    rows = list(rows)
    family = [index for index, row in enumerate(rows) if row.gated and row.p is not None]
    adjusted = dict(zip(family, holm([rows[index].p for index in family]), strict=True))
    return tuple(
        replace(row, adjusted=adjusted.get(index), gate=_word(row, adjusted.get(index), threshold))
        for index, row in enumerate(rows)
    )


def _word(row: Compared, adjusted: float | None, threshold: float) -> str:
    if row.ratio is None:
        return FAILED if row.lost else NOT_COMPARABLE
    return gate_verdict(row.ratio, row.verdict, adjusted, threshold) if row.gated else NOT_GATED


def _warnings(first: MeasuredRun, second: MeasuredRun) -> Iterable[str]:
    """What a reader must know of either run before its figures."""
    for measured in (first,) if first.run.id == second.run.id else (first, second):
        run = measured.run
        if run.plan.protocol.quick:
            yield f"QUICK: {run.id} is good for a look, not for a claim."
        if not run.complete:
            yield f"INTERRUPTED: {run.id} is not complete."
        yield from (f"{run.id}: {warning}" for warning in run.warnings)
        if absent := absence_words(measured):
            yield f"STOPPED: {run.id}: {absent}"


def _rows(
    first: MeasuredRun, second: MeasuredRun, confidence: float, basis: str, unlike: bool
) -> Iterable[Compared]:
    # of two estimators each would see another part of a skewed distribution
    estimator = first.estimator if first.estimator == second.estimator else MEDIAN
    ours = {cell.case.key: cell for cell in first.cells if not is_control(cell)}
    theirs = {cell.case.key: cell for cell in second.cells if not is_control(cell)}
    for key in dict.fromkeys([*ours, *theirs]):
        one, other = ours.get(key), theirs.get(key)
        chief = one or other
        timed = [
            metric
            for metric in (FORWARD, FORWARD_BACKWARD)
            if any(cell is not None and metric in cell.times for cell in (one, other))
        ]
        for metric in timed or [FORWARD]:
            plain = basis == SECONDS or chief.case.role == BASELINE
            row = {
                "label": chief.label,
                "group": chief.group.name,
                "case": key,
                "metric": metric,
                "basis": SECONDS if plain else RELATIVE,
            }
            counts = basis == SECONDS or not plain
            timed_in_a = one is not None and metric in one.times
            logs: list[list[float]] = []
            reason = _reason(one, other, metric, first, second) or (
                "seconds of unlike machines" if plain and unlike else ""
            )
            lost = (
                timed_in_a
                and other is not None
                and metric not in other.times
                and other.status in FAILURES
            )
            if not reason:
                logs = [
                    _logs(run, cell, metric, plain, estimator)
                    for run, cell in ((first, one), (second, other))
                ]
                reason = "" if all(logs) else "no ratio to a baseline in one run"
            if reason:
                yield Compared(
                    **row,
                    a=None,
                    b=None,
                    ratio=None,
                    verdict=NOT_COMPARABLE,
                    reason=reason,
                    gated=False,
                    lost=lost,
                    missing=timed_in_a and counts and not lost and (not logs or bool(logs[0])),
                )
                continue
            found = Difference(*logs)
            ratio = found.interval(confidence)
            yield Compared(
                **row,
                a=math.exp(statistics.fmean(found.a)),
                b=math.exp(statistics.fmean(found.b)),
                ratio=ratio,
                verdict=verdict(ratio, _floor(first, second, one, other, metric)),
                reason="; ".join(_partly(one, first) + _partly(other, second)),
                gated=counts,
                p=found.p_value,
            )


def _reason(
    one: Measured | None,
    other: Measured | None,
    metric: str,
    first: MeasuredRun,
    second: MeasuredRun,
) -> str:
    """Why a cell cannot be compared; empty where it can."""
    for cell, run in ((one, first), (other, second)):
        if cell is None:
            return f"not in {run.run.id}"
        if metric not in cell.times:
            return (
                f"{cell.status.replace('_', ' ') if cell.status != OK else 'not measured'} "
                f"in {run.run.id}"
            )
    return ""


def _partly(cell: Measured, run: MeasuredRun) -> list[str]:
    """In how many replicates a cell failed that others have times of; empty where in none."""
    if not cell.failed:
        return []
    return [
        (
            f"{cell.status.replace('_', ' ')} in {cell.failed} of {cell.replicates} replicates "
            f"of {run.run.id}"
        )
    ]


def _logs(
    run: MeasuredRun, cell: Measured, metric: str, plain: bool, estimator: str
) -> list[float]:
    """One value a replicate: the log-ratio to the baseline, or the median log of the seconds."""
    rounds, key = run.rounds[cell.group.name], cell.case.key
    if plain:
        return [
            math.log(statistics.median(samples))
            for samples in seconds(rounds, key, metric)
            if samples
        ]
    if not any(case.role == BASELINE for case in cell.group.cases):
        return []
    return [
        replicate_value(found, estimator)
        for found in ratio_pairs(by_replicate(rounds), cell.group.baselines, key, metric, estimator)
        if found
    ]


def _floor(
    first: MeasuredRun, second: MeasuredRun, one: Measured, other: Measured, metric: str
) -> Interval | None:
    """The wider of the two runs' A/A intervals; None where neither has a control."""
    found = [
        run.noise.get((cell.group.name, metric)) for run, cell in ((first, one), (second, other))
    ]
    known = [interval for interval in found if interval is not None]
    return max(known, key=lambda interval: interval.half_width) if known else None


def welch(a: Sequence[float], b: Sequence[float], confidence: float) -> Interval:
    """Exp of mean(b) - mean(a) with Welch's t-interval; no interval where a run has a single
    replicate.
    """
    return Difference(a, b).interval(confidence)
