"""Tables of stability suites: a section for each dtype, a row for each layer and solver, with its
errors on every hostile input, its training, and the inputs on which it breaks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from swbench.case import TRAINING, StabilityCase
from swbench.errors import printable
from swbench.formatting import status_words
from swbench.probes.hostile_inputs import INPUTS
from swbench.report import notes
from swbench.report.run_summary import PENDING, MeasuredCell, RunSummary
from swbench.report.table import Cell, Column, Panel, Row, Section, Table
from swbench.result import OK

if TYPE_CHECKING:
    from swbench.store import StoredRun

NO_DIGIT_LEFT = 0.5
"""Error above which no digit is correct: it counts as broken, like values that are not finite."""

RAISED, NOT_FINITE = "raised", "not finite"
"""Statuses that only layers have, beside those of cells."""

TENSORS = {"y": "y", "dx": "dx"}


def _column(name: str, tensor: str) -> str:
    return f"{name.replace('-', '_')}_{tensor}_error"


COLUMNS = (
    Column("norm", "Norm"),
    Column("solver", "Solver"),
    Column("dtype", "dtype"),
    Column("device", "Device"),
    Column("group_size", "G", "count"),
    *(
        Column(_column(name, tensor), name, "error", tensor, needed=True)
        for tensor in TENSORS
        for name in INPUTS
    ),
    Column("breaks", "Breaks on"),
    Column("breaks_before_bn", "where BN does not"),
    Column("final_loss", "Final loss", "quantity", needed=True),
    Column("final_loss_ratio", "to BN's", "ratio"),
    Column("broken_share", "Seeds that break", "share", needed=True),
    Column("seeds", "Seeds", "count"),
    Column("status", "Status"),
    Column("detail", "Detail"),
    Column("threads", "Threads", "count"),
    Column("solver_chosen", "Chosen"),
    Column("kernels_chosen", "Kernels"),
    Column("label", "Layer"),
    Column("suite", "Suite"),
    Column("run", "Run"),
)


def stability_table(run: StoredRun) -> Table:
    """The table of a run of a stability suite."""
    summary = RunSummary(run)
    rows_by_section: dict[tuple, dict[tuple, dict[str, MeasuredCell]]] = {}
    for cell in summary.cells:
        case = cell.case
        rows = rows_by_section.setdefault((case.device, case.group, case.dtype), {})
        rows.setdefault((case.norm, case.solver), {})[case.trial] = cell
    sections = tuple(
        _section(run, section_key, rows) for section_key, rows in rows_by_section.items()
    )
    filled = {
        name
        for section in sections
        for row in section.rows
        for name, cell in row.cells.items()
        if cell.value is not None or cell.status
    }
    return Table(
        title=run.plan.title,
        kind="stability",
        suite=run.plan.suite,
        run=run.id,
        columns=COLUMNS,
        panels=_panels(filled),
        sections=sections,
        warnings=notes.warnings_of(summary, no_gpu=False),
        notes=tuple(_notes(summary.cells)),
        footer=notes.footer_of(summary),
        meta={
            "quick": run.plan.protocol.quick,
            "complete": run.complete,
            "confidence": summary.confidence,
            "created": run.created,
        },
        source=run,
    )


def _panels(filled: set[str]) -> tuple[Panel, ...]:
    training = ("final_loss", "final_loss_ratio", "broken_share")
    panels = [
        Panel(
            "Where it breaks",
            ("label", *(name for name in training if name in filled), "breaks", "breaks_before_bn"),
        )
    ]
    for tensor in TENSORS:
        columns = [
            name
            for name in (_column(input_name, tensor) for input_name in INPUTS)
            if name in filled
        ]
        if columns:
            panels.append(Panel(f"Error of {tensor}, against float64", ("label", *columns)))
    return tuple(panels)


def _section(
    run: StoredRun,
    section_key: tuple[str, int, str],
    rows: Mapping[tuple, Mapping[str, MeasuredCell]],
) -> Section:
    device, group, dtype = section_key
    bn = rows.get(("bn", None), {})
    shown = tuple(_row(run, cells, bn) for cells in rows.values())
    raised: dict[str, list[str]] = {}
    for cells in rows.values():
        for trial, cell in cells.items():
            if RAISED in cell.chosen:
                raised.setdefault(cell.chosen[RAISED], []).append(f"{cell.label} on {trial}")
    raised_notes = tuple(f"{printable(why)} — {', '.join(where)}." for why, where in raised.items())
    return Section(f"{dtype}, G = {group}, {device}", shown, raised_notes)


def _row(run: StoredRun, cells: Mapping[str, MeasuredCell], bn: Mapping[str, MeasuredCell]) -> Row:
    any_cell = next(iter(cells.values()))
    case: StabilityCase = any_cell.case
    failed = [cell for cell in cells.values() if cell.status != OK]
    row_cells = {
        "norm": Cell(case.norm),
        "solver": Cell(case.solver),
        "dtype": Cell(case.dtype),
        "device": Cell(case.device),
        "group_size": Cell(case.group),
        "status": Cell(status_words(failed[0].status if failed else OK)),
        "detail": Cell(" ".join(failed[0].detail.split()) or None if failed else None),
        "threads": Cell(case.threads),
        "label": Cell(any_cell.label),
        "suite": Cell(run.plan.suite),
        "run": Cell(run.id),
    }
    for name in ("solver", "kernels"):
        if chosen := [cell.chosen[name] for cell in cells.values() if name in cell.chosen]:
            row_cells[f"{name}_chosen"] = Cell(chosen[0])
    for name in INPUTS:
        if name in cells:
            row_cells |= {_column(name, tensor): _error(cells[name], tensor) for tensor in TENSORS}
    if TRAINING in cells:
        row_cells |= _training(cells[TRAINING], bn.get(TRAINING))
    breaks = {name: words for name in INPUTS if (words := _broken_words(cells.get(name)))}
    before = [words for name, words in breaks.items() if not _broken_words(bn.get(name))]
    if any(name in cells for name in INPUTS):
        row_cells["breaks"] = Cell(", ".join(breaks.values()) or None)
        row_cells["breaks_before_bn"] = Cell(", ".join(before) or None)
    return Row(any_cell.label, row_cells, role=case.role)


def _error(cell: MeasuredCell, tensor: str) -> Cell:
    if cell.status != OK:
        return Cell(status=cell.status, detail=cell.detail)
    if errors := cell.values.get(f"{tensor}_error"):
        return Cell(max(errors))
    return Cell(status=RAISED if RAISED in cell.chosen else NOT_FINITE)


def _broken_words(cell: MeasuredCell | None) -> str:
    """The name of an input on which the layer breaks, with the broken tensor: none named for y, on
    which all others depend, else dx or the gradients of parameters. Empty where nothing breaks.
    """
    if cell is None or cell.status != OK:
        return ""
    for tensor, words in (("y", ""), ("dx", " (dx)")):
        errors = cell.values.get(f"{tensor}_error")
        if not errors or max(errors) > NO_DIGIT_LEFT:
            return f"{cell.case.trial}{words}"
    nonfinite_share = max(cell.values.get("parameters_nonfinite_share", (0.0,)))
    return f"{cell.case.trial} (parameters)" if nonfinite_share else ""


def _training(cell: MeasuredCell, bn: MeasuredCell | None) -> dict[str, Cell]:
    if cell.status != OK:
        return dict.fromkeys(("final_loss", "broken_share"), Cell(status=cell.status))
    broken = cell.values.get("broken", ())
    training_cells = {
        "broken_share": Cell(sum(broken) / len(broken)) if broken else Cell(status=PENDING),
        "seeds": Cell(len(broken)),
        "final_loss": Cell(status="all broken"),
    }
    losses = _losses(cell)
    if losses:
        training_cells["final_loss"] = Cell(_mean(losses.values()))
    both = losses.keys() & _losses(bn).keys() if bn is not None else ()
    if both:
        base = _losses(bn)
        ratio = _mean(losses[seed] for seed in both) / _mean(base[seed] for seed in both)
        training_cells["final_loss_ratio"] = Cell(ratio)
    return training_cells


def _losses(cell: MeasuredCell) -> dict[int, float]:
    """The final loss of each seed that did not break."""
    pairs = zip(cell.values.get("final_loss", ()), cell.values.get("broken", ()), strict=False)
    return {
        seed: loss
        for seed, (loss, broken) in enumerate(pairs)
        if not broken and math.isfinite(loss)
    }


def _mean(values: Iterable[float]) -> float:
    values_list = list(values)
    return sum(values_list) / len(values_list)


def _notes(cells: Sequence[MeasuredCell]) -> Iterable[str]:
    yield (
        "Errors are of the norm of all entries, against the same layer in float64 on the same "
        f"input; above {NO_DIGIT_LEFT:g} no digit is left, which counts as broken, as does what is "
        "not finite and what a layer raised for. A solver that is not exact by design is judged "
        "against itself."
    )
    training = next((cell.case for cell in cells if cell.case.trial == TRAINING), None)
    if training is not None:
        yield (
            f"Training: {training.steps} steps at learning rate {training.learning_rate:g}; a seed "
            "breaks where a loss or parameter is not finite or nothing was learnt. The final loss "
            "is the mean of the seeds that did not, its ratio to BN's of those where neither did."
        )
    used = {cell.case.trial for cell in cells}
    yield f"Inputs: {'; '.join(f'{name}, {w}' for name, w in INPUTS.items() if name in used)}."
