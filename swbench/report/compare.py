"""Comparison of two runs: cells matched by their key, their ratio with its interval, and a verdict
for a regression gate.
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
from swbench.report.cautions import absence_text
from swbench.report.comparison import (
    FAILED,
    NOT_COMPARABLE,
    NOT_GATED,
    RELATIVE,
    SECONDS,
    Compared,
    Comparison,
)
from swbench.report.run_summary import MeasuredCell, RunSummary, is_control
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
    run_a, run_b = RunSummary(a), RunSummary(b)
    confidence = min(run_a.confidence, run_b.confidence)
    rows = _with_gate_verdicts(_rows(run_a, run_b, confidence, basis, bool(differences)), threshold)
    return Comparison(
        a.id,
        b.id,
        rows,
        tuple(differences),
        threshold,
        confidence,
        basis,
        tuple(_warnings(run_a, run_b)),
    )


def _with_gate_verdicts(rows: Iterable[Compared], threshold: float) -> tuple[Compared, ...]:
    """The rows with the gate's verdict on each, adjusted for the number of gated rows."""
    rows = list(rows)
    family = [index for index, row in enumerate(rows) if row.gated and row.p is not None]
    adjusted = dict(zip(family, holm([rows[index].p for index in family]), strict=True))
    return tuple(
        replace(
            row,
            adjusted=adjusted.get(index),
            gate=_gate_verdict_of(row, adjusted.get(index), threshold),
        )
        for index, row in enumerate(rows)
    )


def _gate_verdict_of(row: Compared, adjusted: float | None, threshold: float) -> str:
    if row.ratio is None:
        return FAILED if row.lost else NOT_COMPARABLE
    return gate_verdict(row.ratio, row.verdict, adjusted, threshold) if row.gated else NOT_GATED


def _warnings(run_a: RunSummary, run_b: RunSummary) -> Iterable[str]:
    """Warnings about either run."""
    for summary in (run_a,) if run_a.run.id == run_b.run.id else (run_a, run_b):
        run = summary.run
        if run.plan.protocol.quick:
            yield f"QUICK: {run.id} is good for a look, not for a claim."
        if not run.complete:
            yield f"INTERRUPTED: {run.id} is not complete."
        yield from (f"{run.id}: {warning}" for warning in run.warnings)
        if absence := absence_text(summary):
            yield f"STOPPED: {run.id}: {absence}"


def _rows(
    run_a: RunSummary, run_b: RunSummary, confidence: float, basis: str, unlike: bool
) -> Iterable[Compared]:
    # two different estimators would describe different parts of a skewed distribution
    estimator = run_a.estimator if run_a.estimator == run_b.estimator else MEDIAN
    cells_a = {cell.case.key: cell for cell in run_a.cells if not is_control(cell)}
    cells_b = {cell.case.key: cell for cell in run_b.cells if not is_control(cell)}
    for key in dict.fromkeys([*cells_a, *cells_b]):
        cell_a, cell_b = cells_a.get(key), cells_b.get(key)
        cell = cell_a or cell_b
        timed = [
            metric
            for metric in (FORWARD, FORWARD_BACKWARD)
            if any(cell is not None and metric in cell.times for cell in (cell_a, cell_b))
        ]
        for metric in timed or [FORWARD]:
            in_seconds = basis == SECONDS or cell.case.role == BASELINE
            row = {
                "label": cell.label,
                "group": cell.group.name,
                "case": key,
                "metric": metric,
                "basis": SECONDS if in_seconds else RELATIVE,
            }
            counts = basis == SECONDS or not in_seconds
            timed_in_a = cell_a is not None and metric in cell_a.times
            logs: list[list[float]] = []
            reason = _reason(cell_a, cell_b, metric, run_a, run_b) or (
                "seconds of unlike machines" if in_seconds and unlike else ""
            )
            lost = (
                timed_in_a
                and cell_b is not None
                and metric not in cell_b.times
                and cell_b.status in FAILURES
            )
            if not reason:
                logs = [
                    _log_values(run, cell, metric, in_seconds, estimator)
                    for run, cell in ((run_a, cell_a), (run_b, cell_b))
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
            difference = Difference(*logs)
            ratio = difference.interval(confidence)
            yield Compared(
                **row,
                a=math.exp(statistics.fmean(difference.a)),
                b=math.exp(statistics.fmean(difference.b)),
                ratio=ratio,
                verdict=verdict(ratio, _floor(run_a, run_b, cell_a, cell_b, metric)),
                reason="; ".join(_partial_failure(cell_a, run_a) + _partial_failure(cell_b, run_b)),
                gated=counts,
                p=difference.p_value,
            )


def _reason(
    cell_a: MeasuredCell | None,
    cell_b: MeasuredCell | None,
    metric: str,
    run_a: RunSummary,
    run_b: RunSummary,
) -> str:
    """Why a cell cannot be compared; empty where it can."""
    for cell, run in ((cell_a, run_a), (cell_b, run_b)):
        if cell is None:
            return f"not in {run.run.id}"
        if metric not in cell.times:
            return (
                f"{cell.status.replace('_', ' ') if cell.status != OK else 'not measured'} "
                f"in {run.run.id}"
            )
    return ""


def _partial_failure(cell: MeasuredCell, run: RunSummary) -> list[str]:
    """A text on the replicates in which a cell failed, though others have its times; empty where
    there are none.
    """
    if not cell.failed:
        return []
    return [
        (
            f"{cell.status.replace('_', ' ')} in {cell.failed} of {cell.replicates} replicates "
            f"of {run.run.id}"
        )
    ]


def _log_values(
    run: RunSummary, cell: MeasuredCell, metric: str, in_seconds: bool, estimator: str
) -> list[float]:
    """One value for each replicate: the log-ratio to the baseline, or the log of the median
    seconds.
    """
    rounds, key = run.rounds[cell.group.name], cell.case.key
    if in_seconds:
        return [
            math.log(statistics.median(samples))
            for samples in seconds(rounds, key, metric)
            if samples
        ]
    if not any(case.role == BASELINE for case in cell.group.cases):
        return []
    return [
        replicate_value(pairs, estimator)
        for pairs in ratio_pairs(by_replicate(rounds), cell.group.baselines, key, metric, estimator)
        if pairs
    ]


def _floor(
    run_a: RunSummary, run_b: RunSummary, cell_a: MeasuredCell, cell_b: MeasuredCell, metric: str
) -> Interval | None:
    """The wider of the two runs' A/A intervals; None where neither has a control."""
    intervals = [
        run.noise.get((cell.group.name, metric)) for run, cell in ((run_a, cell_a), (run_b, cell_b))
    ]
    known = [interval for interval in intervals if interval is not None]
    return max(known, key=lambda interval: interval.half_width) if known else None


def welch(a: Sequence[float], b: Sequence[float], confidence: float) -> Interval:
    """Exp of mean(b) - mean(a) with Welch's t-interval; no interval where a run has a single
    replicate.
    """
    return Difference(a, b).interval(confidence)
