"""Two runs side by side: cells matched by their key, the ratio between them with its interval, and
a verdict a regression gate can use.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swbench.case import BASELINE
from swbench.errors import UnlikeEnvironments
from swbench.report.measured import Measured, MeasuredRun, is_control
from swbench.result import FAILURES, FORWARD, FORWARD_BACKWARD, OK
from swbench.stats.intervals import Interval, replicate_value, t_quantile
from swbench.stats.samples import pairs, seconds
from swbench.stats.verdict import SLOWER, verdict

if TYPE_CHECKING:
    from swbench.store import StoredRun

NOT_COMPARABLE = "not comparable"
RELATIVE, SECONDS = "ratio", "seconds"
"""What is compared: each run's ratio to its own baseline, in which the speed of the machine
cancels, or plain seconds.
"""


@dataclass(frozen=True)
class Compared:
    """One timing metric of one cell in both runs. `a` and `b` are what is divided (a ratio, or
    seconds); `ratio` is B / A.

    `reason` says why a cell is not comparable, or, of one that is, how many replicates failed and
    are not in its figures. `gated` cells count for a regression; the baseline's seconds do not,
    unless seconds are compared. `lost` cells were timed in A and failed in B.
    """

    label: str
    group: str
    case: str
    metric: str
    basis: str
    a: float | None
    b: float | None
    ratio: Interval | None
    verdict: str
    reason: str = ""
    gated: bool = True
    lost: bool = False


@dataclass(frozen=True)
class Comparison:
    """All cells of two runs; `differences` are those of their environments, `threshold` the growth
    (0.05 for 5 %) that counts as a regression.
    """

    a: str
    b: str
    rows: tuple[Compared, ...]
    differences: tuple[str, ...]
    threshold: float
    confidence: float
    basis: str
    warnings: tuple[str, ...] = ()

    @property
    def lost(self) -> tuple[Compared, ...]:
        """Cells that run A timed and that ran out of memory, crashed or timed out in run B."""
        return tuple(row for row in self.rows if row.lost)

    @property
    def partly(self) -> tuple[Compared, ...]:
        """Cells that are compared by what is left of them: they failed in some replicates of either
        run.
        """
        return tuple(row for row in self.rows if row.reason and row.verdict != NOT_COMPARABLE)

    @property
    def regressions(self) -> tuple[Compared, ...]:
        """Cells that are slower by verdict and by more than the threshold."""
        return tuple(
            row
            for row in self.rows
            if row.gated
            and row.verdict == SLOWER
            and row.ratio is not None
            and row.ratio.estimate > 1.0 + self.threshold
        )


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
    rows = tuple(_rows(first, second, confidence, basis, bool(differences)))
    return Comparison(
        a.id, b.id, rows, tuple(differences), threshold, confidence, basis, tuple(_warnings(a, b))
    )


def _warnings(a: StoredRun, b: StoredRun) -> Iterable[str]:
    """What a reader must know of either run before its figures."""
    for run in (a,) if a.id == b.id else (a, b):
        if run.plan.protocol.quick:
            yield f"QUICK: {run.id} is good for a look, not for a claim."
        if not run.complete:
            yield f"INTERRUPTED: {run.id} is not complete."
        yield from (f"{run.id}: {warning}" for warning in run.warnings)


def _rows(
    first: MeasuredRun, second: MeasuredRun, confidence: float, basis: str, unlike: bool
) -> Iterable[Compared]:
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
            reason = _reason(one, other, metric, first, second) or (
                "seconds of unlike machines" if plain and unlike else ""
            )
            if reason:
                lost = (
                    one is not None
                    and metric in one.times
                    and other is not None
                    and metric not in other.times
                    and other.status in FAILURES
                )
                yield Compared(
                    **row,
                    a=None,
                    b=None,
                    ratio=None,
                    verdict=NOT_COMPARABLE,
                    reason=reason,
                    gated=False,
                    lost=lost,
                )
                continue
            logs_a, logs_b = _logs(first, one, metric, plain), _logs(second, other, metric, plain)
            if not logs_a or not logs_b:
                yield Compared(
                    **row,
                    a=None,
                    b=None,
                    ratio=None,
                    verdict=NOT_COMPARABLE,
                    reason="no ratio to a baseline in one run",
                    gated=False,
                )
                continue
            found = welch(logs_a, logs_b, confidence)
            said = verdict(found, _floor(first, second, one, other, metric))
            mean_a, mean_b = (math.exp(statistics.fmean(logs)) for logs in (logs_a, logs_b))
            gated, failed = (
                basis == SECONDS or not plain,
                "; ".join(_partly(one, first) + _partly(other, second)),
            )
            yield Compared(
                **row, a=mean_a, b=mean_b, ratio=found, verdict=said, reason=failed, gated=gated
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


def _logs(run: MeasuredRun, cell: Measured, metric: str, plain: bool) -> list[float]:
    """One value a replicate: the median log-ratio to the baseline, or the median log of the
    seconds.
    """
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
        replicate_value(found)
        for found in pairs(rounds, cell.group.baseline.key, key, metric)
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

    Welch, B. L. (1947), "The generalization of Student's problem when several different population
    variances are involved".
    """
    difference = statistics.fmean(b) - statistics.fmean(a)
    least = min(len(a), len(b))
    if least < 2:
        return Interval(math.exp(difference), None, None, confidence, least)
    errors = [statistics.variance(values) / len(values) for values in (a, b)]
    total = sum(errors)
    if total == 0:
        return Interval(
            math.exp(difference), math.exp(difference), math.exp(difference), confidence, least
        )
    degrees = total**2 / sum(
        error**2 / (len(values) - 1) for error, values in zip(errors, (a, b), strict=True)
    )
    half = t_quantile(confidence, degrees) * math.sqrt(total)
    return Interval(
        math.exp(difference),
        math.exp(difference - half),
        math.exp(difference + half),
        confidence,
        least,
    )
