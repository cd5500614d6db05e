"""Notes on influences on the figures: workers that did not run, means far from their medians, and
carry-over between cases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from swbench.errors import printable
from swbench.formatting import error, ratio, significant
from swbench.report.run_summary import TIMES, MeasuredCell, RunSummary, is_control
from swbench.result import FORWARD
from swbench.stats.carry_over import CarryOver, carry_overs, corrected
from swbench.stats.disturbance_rule import absences
from swbench.stats.intervals import Interval, log_ratio
from swbench.stats.samples import by_replicate, by_worker, ratio_pairs
from swbench.stats.stopping import ALPHA
from swbench.stats.two_runs import holm

PASS_NAMES = {FORWARD: "F", "forward_backward_s": "F+B"}

LEAST_SHIFT, LEAST_OF_HALF_WIDTH = 0.001, 0.25
"""Least shift of a ratio, on the log scale and as a share of the half-width of its interval, for
which a carry-over gets a note; heuristics.
"""

MOST_NAMED_CELLS = 6
"""Largest number of cells that a note names; the rest is counted."""


def cautions(summary: RunSummary) -> Iterator[str]:
    """The notes on means and carry-over of a run, if there are any."""
    for text in (skew_note(summary), carry_over_note(summary)):
        if text:
            yield text


def absence_text(summary: RunSummary) -> str:
    """The number of rounds in which workers were stopped, frozen or suspended, and their longest
    absence, as text; empty where there are none.
    """
    workers = [
        [round_.disturbance for round_ in worker]
        for group in summary.rounds.values()
        for worker in by_worker(group).values()
    ]
    absences_s = [seconds for worker in workers for seconds in absences(worker)]
    if not absences_s:
        return ""
    rounds = sum(map(len, workers))
    return (
        f"in {len(absences_s)} of {rounds} rounds the worker did not run, for up to "
        f"{significant(max(absences_s), 2)} s: stopped, frozen, suspended, or its core taken away."
    )


def skew_note(summary: RunSummary) -> str | None:
    """A note on the cells whose mean, the paper's statistic, is farther from their median than the
    interval of the median explains; None where there are none.
    """
    lines = [
        f"{_cell_name(cell, metric)} mean {significant(timing.absolute.mean)}, median "
        f"{significant(timing.absolute.median)}"
        for cell in summary.cells
        if not is_control(cell)
        for metric, timing in cell.times.items()
        if timing.absolute.skewed
    ]
    if not lines:
        return None
    return (
        "Mean and median seconds differ by more than the interval of the median explains, so a few "
        f"rounds moved the mean: {_join_lines(lines)}. Ratios leave those out and hardly move."
    )


class _CellCarryOver(NamedTuple):
    """A carry-over and the cell that causes it."""

    cell: MeasuredCell
    cost: CarryOver


def carry_over_note(summary: RunSummary) -> str | None:
    """A note on the rows whose carry-over, relative to the baseline's, biases their ratio: its
    size, the corrected ratio, and what to do. None where there are none.

    The carry-over of all rows and passes is tested together (Holm), at 5 %.
    """
    carry_over_cells = list(_cell_carry_overs(summary))
    adjusted = holm([carried.cost.p_value for carried in carry_over_cells])
    lines = []
    for carried, p in zip(carry_over_cells, adjusted, strict=True):
        if p < ALPHA and (text := _carry_over_text(summary, carried, p)):
            lines.append(text)
    if not lines:
        return None
    return (
        f"Carry-over, what a row costs the case after it: {_join_lines(lines)}. A row never "
        "follows itself, so its ratio reads too low where it slows others down. Quote the "
        "corrected ratio, or measure more rows in a round, among which the cost is spread."
    )


def _cell_carry_overs(summary: RunSummary) -> Iterator[_CellCarryOver]:
    cells = {(cell.group.name, cell.case.key): cell for cell in summary.cells}
    for group in summary.groups:
        if group.baseline_key is None:
            continue
        workers = list(by_worker(summary.rounds[group.name]).values())
        for metric in TIMES:
            for cost in carry_overs(workers, group.baseline_key, metric):
                yield _CellCarryOver(cells[group.name, cost.case], cost)


def _carry_over_text(summary: RunSummary, carried: _CellCarryOver, p: float) -> str:
    """The text for one carry-over; empty where it does not matter for the row's ratio."""
    cell, cost = carried
    timing = cell.times.get(cost.metric)
    if timing is None or timing.ratio is None:
        return ""
    corrected_ratio = _corrected_ratio(summary, carried)
    shift = abs(corrected_ratio.effect - timing.ratio.effect)
    if shift < LEAST_SHIFT or not shift >= LEAST_OF_HALF_WIDTH * timing.ratio.half_width:
        return ""
    excess = math.expm1(cost.mean)
    return (
        f"after {_cell_name(cell, cost.metric)} the next takes {100 * abs(excess):.2g} % "
        f"{'longer' if excess > 0 else 'less'} than after the baseline (p = {error(p)}), ratio "
        f"{ratio(timing.ratio.estimate)}, corrected {ratio(corrected_ratio.estimate)}"
    )


def _corrected_ratio(summary: RunSummary, carried: _CellCarryOver) -> Interval:
    cell, cost = carried
    rounds = corrected(summary.rounds[cell.group.name], cost.metric, {cost.case: cost.mean})
    pairs = ratio_pairs(
        by_replicate(rounds), cell.group.baselines, cost.case, cost.metric, summary.estimator
    )
    return log_ratio(pairs, summary.confidence, summary.estimator)


def _cell_name(cell: MeasuredCell, metric: str) -> str:
    return (
        f"{printable(cell.label)} ({printable(cell.group.name)}) {PASS_NAMES.get(metric, metric)}"
    )


def _join_lines(lines: list[str]) -> str:
    more = f"; and {len(lines) - MOST_NAMED_CELLS} more" if len(lines) > MOST_NAMED_CELLS else ""
    return f"{'; '.join(lines[:MOST_NAMED_CELLS])}{more}"
