"""Notes of what may have moved figures: workers that did not run, means far from their medians, and
cases that slow the next one down.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from swbench.errors import printable
from swbench.formatting import error, ratio, significant
from swbench.report.run_summary import TIMES, Measured, MeasuredRun, is_control
from swbench.result import FORWARD
from swbench.stats.carry_over import CarryOver, carry_overs, corrected
from swbench.stats.disturbance_rule import absences
from swbench.stats.intervals import Interval, log_ratio
from swbench.stats.samples import by_replicate, by_worker, ratio_pairs
from swbench.stats.stopping import ALPHA
from swbench.stats.two_runs import holm

LETTERS = {FORWARD: "F", "forward_backward_s": "F+B"}

LEAST_SHIFT, LEAST_OF_HALF_WIDTH = 0.001, 0.25
"""A carry-over matters where it moves a ratio by this much, and by this share of the half-width of
the ratio's interval; heuristics.
"""

MOST = 6
"""Cells that a note names; the rest is counted."""


def cautions(measured: MeasuredRun) -> Iterator[str]:
    """The notes on means and carry-over that a run needs."""
    for text in (skew_note(measured), carry_over_note(measured)):
        if text:
            yield text


def absence_words(measured: MeasuredRun) -> str:
    """In how many rounds workers were stopped, frozen or suspended, and for how long at most; empty
    where in none.
    """
    workers = [
        [one.disturbance for one in worker]
        for group in measured.rounds.values()
        for worker in by_worker(group).values()
    ]
    absent = [seconds for worker in workers for seconds in absences(worker)]
    if not absent:
        return ""
    rounds = sum(map(len, workers))
    return (
        f"in {len(absent)} of {rounds} rounds the worker did not run, for up to "
        f"{significant(max(absent), 2)} s: stopped, frozen, suspended, or its core taken away."
    )


def skew_note(measured: MeasuredRun) -> str | None:
    """The cells whose mean, the paper's statistic, is farther from their median than the interval
    of the median explains. None where there is none.
    """
    found = [
        f"{_name(cell, metric)} mean {significant(timing.absolute.mean)}, median "
        f"{significant(timing.absolute.median)}"
        for cell in measured.cells
        if not is_control(cell)
        for metric, timing in cell.times.items()
        if timing.absolute.skewed
    ]
    if not found:
        return None
    return (
        "Mean and median seconds differ by more than the interval of the median explains, so a few "
        f"rounds moved the mean: {_listed(found)}. Ratios leave those out and hardly move."
    )


class _Carried(NamedTuple):
    """A carry-over and the cell that causes it."""

    cell: Measured
    cost: CarryOver


def carry_over_note(measured: MeasuredRun) -> str | None:
    """The rows that slow the case after them down, other than the baseline does, by so much that
    their ratio is off: by how much, and what to do. None where there is none.

    The costs of all rows and passes are tested together (Holm), at 5 %.
    """
    carried = list(_carried(measured))
    adjusted = holm([one.cost.p_value for one in carried])
    found = []
    for one, p in zip(carried, adjusted, strict=True):
        if p < ALPHA and (told := _told(measured, one, p)):
            found.append(told)
    if not found:
        return None
    return (
        f"Carry-over, what a row costs the case after it: {_listed(found)}. A row never follows "
        "itself, so its ratio reads too low where it slows others down. Quote the corrected ratio, "
        "or measure more rows in a round, among which the cost is spread."
    )


def _carried(measured: MeasuredRun) -> Iterator[_Carried]:
    cells = {(cell.group.name, cell.case.key): cell for cell in measured.cells}
    for group in measured.groups:
        if group.baseline_key is None:
            continue
        workers = list(by_worker(measured.rounds[group.name]).values())
        for metric in TIMES:
            for cost in carry_overs(workers, group.baseline_key, metric):
                yield _Carried(cells[group.name, cost.case], cost)


def _told(measured: MeasuredRun, one: _Carried, p: float) -> str:
    """The words for one carry-over; empty where it does not matter to the row's ratio."""
    cell, cost = one
    timing = cell.times.get(cost.metric)
    if timing is None or timing.ratio is None:
        return ""
    right = _corrected(measured, one)
    shift = abs(right.effect - timing.ratio.effect)
    if shift < LEAST_SHIFT or not shift >= LEAST_OF_HALF_WIDTH * timing.ratio.half_width:
        return ""
    more = math.expm1(cost.mean)
    return (
        f"after {_name(cell, cost.metric)} the next takes {100 * abs(more):.2g} % "
        f"{'longer' if more > 0 else 'less'} than after the baseline (p = {error(p)}), ratio "
        f"{ratio(timing.ratio.estimate)}, corrected {ratio(right.estimate)}"
    )


def _corrected(measured: MeasuredRun, one: _Carried) -> Interval:
    cell, cost = one
    rounds = corrected(measured.rounds[cell.group.name], cost.metric, {cost.case: cost.mean})
    found = ratio_pairs(
        by_replicate(rounds), cell.group.baselines, cost.case, cost.metric, measured.estimator
    )
    return log_ratio(found, measured.confidence, measured.estimator)


def _name(cell: Measured, metric: str) -> str:
    return f"{printable(cell.label)} ({printable(cell.group.name)}) {LETTERS.get(metric, metric)}"


def _listed(found: list[str]) -> str:
    more = f"; and {len(found) - MOST} more" if len(found) > MOST else ""
    return f"{'; '.join(found[:MOST])}{more}"
