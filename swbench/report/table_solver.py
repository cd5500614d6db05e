"""Tables of solver suites: a section for each size, a row for each solver and spectrum, with its
time, its errors and the error that it promises.
"""

from __future__ import annotations

from collections.abc import Iterable

from swbench.case import BASELINE, SolverCase, device_kind
from swbench.formatting import number, status_words
from swbench.report import notes
from swbench.report.cautions import cautions
from swbench.report.run_summary import MeasuredCell, RunSummary, Timing, is_control
from swbench.report.table import Cell, Column, Panel, Row, Section, Table
from swbench.result import FORWARD, FORWARD_BACKWARD, OK
from swbench.stats.verdict import UNSTABLE

METRIC = {"f": FORWARD, "fb": FORWARD_BACKWARD}
PASSES = {"f": "F", "fb": "F+B"}

ERRORS = {
    "residual": "whitening_residual",
    "w_error": "w_error",
    "gradient_error": "gradient_error",
    "root_residual": "root_residual",
    "preconditioned_error": "preconditioned_error",
}
"""Column stem -> metric: ‖WΣWᵀ−I‖, relative error of W and of the gradient against float64,
‖WᵖΣ−I‖, relative error of W g; `_worst` and `_median` over the batch.
"""

SCALARS = ("promised_error", "w_nonfinite_share", "gradient_nonfinite_share")
"""Columns with the worst value, over all replicates, of the metric of the same name."""

IMPOSSIBLE, SLACK = "impossible", 1.2
"""Status of a time below the machine's floor, and the tolerance: the peak is itself measured, and
was a tenth too low on a shared machine. Heuristic; a solver that does not do its work, or that is
not waited for, is off by far more.
"""

GRADIENT_SLACK = 10.0
"""Tolerance of the gradient's error, in units of the error promised for W."""

BEST = "★"

COLUMNS = (
    Column("solver", "Solver"),
    Column("batch", "B", "count"),
    Column("group_size", "G", "count"),
    Column("spectrum", "Spectrum"),
    Column("dtype", "dtype"),
    Column("device", "Device"),
    Column("f_s", "F, s", "seconds", "Time", needed=True),
    Column("fb_s", "F+B, s", "seconds", "Time", needed=True),
    Column("f_per_matrix_s", "F, µs", "microseconds", "Time of a matrix", needed=True),
    Column("fb_per_matrix_s", "F+B, µs", "microseconds", "Time of a matrix", needed=True),
    Column("ratio_f", "F / eigh", "ratio", "Ratio", bounds=True, needed=True),
    Column("ratio_fb", "F+B / eigh", "ratio", "Ratio", bounds=True, needed=True),
    Column("residual_worst", "‖WΣWᵀ−I‖ worst", "error", "Exactness"),
    Column("residual_median", "median", "error", "Exactness"),
    Column("w_error_worst", "W error worst", "error", "Exactness"),
    Column("w_error_median", "median", "error", "Exactness"),
    Column("promised_error", "promised", "error", "Exactness"),
    Column("w_nonfinite_share", "W not finite", "share", "Exactness"),
    Column("gradient_error_worst", "∂Σ error worst", "error", "Gradient"),
    Column("gradient_error_median", "median", "error", "Gradient"),
    Column("gradient_nonfinite_share", "∂Σ not finite", "share", "Gradient"),
    Column("exact", "Exact"),
    Column("best", "Best exact"),
    Column("status", "Status"),
    Column("detail", "Detail"),
    Column("verdict_f", "F"),
    Column("verdict_fb", "F+B"),
    *(
        Column(f"{p}_{what}_s", f"{PASSES[p]} {what}, s", "seconds")
        for p in PASSES
        for what in ("low", "high", "median", "std")
    ),
    *(
        Column(f"{p}_{what}", f"{PASSES[p]} {what}", "count")
        for p in PASSES
        for what in ("iterations", "replicates")
    ),
    Column("mode", "Mode"),
    Column("cache", "Cache"),
    Column("threads", "Threads", "count"),
    Column("label", "Solver"),
    Column("solver_chosen", "Chosen"),
    Column("root", "p", "count"),
    Column("sizes", "Sizes"),
    Column("root_residual_worst", "‖WᵖΣ−I‖ worst", "error", "Root"),
    Column("root_residual_median", "median", "error", "Root"),
    Column("preconditioned_error_worst", "W g error worst", "error", "Root"),
    Column("preconditioned_error_median", "median", "error", "Root"),
    Column("floor_s", "Floor, s", "seconds"),
    Column("roof_share", "Floor / F", "share"),
    Column("suite", "Suite"),
    Column("run", "Run"),
    Column("case", "Case"),
)


def solver_table(run) -> Table:
    """The table of a run of a solver suite."""
    summary = RunSummary(run)
    cells = [cell for cell in summary.cells if not is_control(cell)]
    by_size: dict[tuple, list[MeasuredCell]] = {}
    for cell in cells:
        by_size.setdefault(_size(cell.case), []).append(cell)
    sections = tuple(_section(run, section_cells) for section_cells in by_size.values())
    filled_columns = frozenset(
        name
        for section in sections
        for row in section.rows
        for name, cell in row.cells.items()
        if cell.value is not None
    )
    return Table(
        title=run.plan.title,
        kind="solver",
        suite=run.plan.suite,
        run=run.id,
        columns=COLUMNS,
        panels=_panels(filled_columns),
        sections=sections,
        warnings=notes.warnings_of(summary, no_gpu=False),
        notes=tuple(_notes(summary, sections)),
        footer=notes.footer_of(summary),
        meta={
            "quick": run.plan.protocol.quick,
            "complete": run.complete,
            "confidence": summary.confidence,
            "created": run.created,
        },
        source=run,
    )


def _panels(filled_columns: frozenset[str]) -> tuple[Panel, ...]:
    names = ("label", "spectrum")
    exactness = tuple(
        column.name
        for column in COLUMNS
        if column.span in ("Exactness", "Gradient", "Root") and column.name in filled_columns
    )
    # where no row has a gradient the suite does not ask for one
    both_passes = (
        ()
        if "f_s" in filled_columns and "fb_s" not in filled_columns
        else ("fb_per_matrix_s", "ratio_fb")
    )
    times = (
        "f_per_matrix_s",
        *both_passes[:1],
        "ratio_f",
        *both_passes[1:],
        "roof_share",
        "status",
    )
    panels = [
        Panel(
            "Time of one matrix, and ratio to eigh [interval]",
            (*names, *(name for name in times if name != "roof_share" or name in filled_columns)),
        )
    ]
    if exactness:
        panels.append(Panel("Exactness, against float64", (*names, *exactness, "exact")))
    deviations = tuple(f"{p}_{what}_s" for p in PASSES for what in ("low", "high", "median", "std"))
    if "f_s" in filled_columns or "fb_s" in filled_columns:
        panels.append(
            Panel(
                "Seconds of the whole batch: mean, its interval, median, deviation",
                (*names, "f_s", "fb_s", *deviations),
                detail=True,
            )
        )
    return tuple(panels)


def _size(case: SolverCase) -> tuple:
    return (
        *(case.device, case.sizes, case.group, case.root, case.batch, case.dtype),
        *(case.mode, case.cache, case.threads),
    )


def _section(run, cells: list[MeasuredCell]) -> Section:
    case = cells[0].case
    rows = [_row(run, cell) for cell in cells]
    best = {
        spectrum: _best(rows, spectrum)
        for spectrum in dict.fromkeys(row.cell("spectrum").value for row in rows)
    }
    marked = []
    for row in rows:
        if best[row.cell("spectrum").value] is row:
            row = Row(row.label, {**row.cells, "best": Cell("yes")}, row.role, BEST)
        marked.append(row)
    extras = [f"{case.threads} thread{'s' if case.threads > 1 else ''}"] if case.threads else []
    extras += [case.mode] if case.mode != "eager" else []
    extras += [f"{case.cache} cache"] if device_kind(case.device) == "cuda" else []
    faults = [(row, _faults(row)) for row in rows]
    fault_notes = tuple(
        f"{row.label}, {row.cell('spectrum').value}: {'; '.join(row_faults)}."
        for row, row_faults in faults
        if row_faults
    )
    extras = [f"p = {case.root}", *extras] if case.root != 2 or not case.gradient else extras
    group = f"each of G = {_sizes_of(case)}" if case.sizes else f"G = {case.group}"
    return Section(
        "; ".join([f"B = {case.batch}, {group}, {case.dtype}, {case.device}", *extras]),
        tuple(marked),
        fault_notes,
    )


def _sizes_of(case: SolverCase) -> str:
    return ", ".join(map(str, case.sizes))


def _row(run, cell: MeasuredCell) -> Row:
    case = cell.case
    cells = {
        "solver": Cell(case.solver),
        "batch": Cell(case.batch),
        "group_size": Cell(case.group),
        "spectrum": Cell(case.spectrum),
        "dtype": Cell(case.dtype),
        "device": Cell(case.device),
        "exact": Cell(cell.chosen.get("exact"), status=cell.status if cell.status != OK else ""),
        "best": Cell("no"),
        "status": Cell(status_words(cell.state)),
        "detail": Cell(" ".join(cell.detail.split()) or None),
        "mode": Cell(case.mode),
        "cache": Cell(case.cache),
        "threads": Cell(case.threads),
        "label": Cell(cell.label),
        "root": Cell(case.root),
        "sizes": Cell(_sizes_of(case) or None),
        "suite": Cell(run.plan.suite),
        "run": Cell(run.id),
        "case": Cell(case.key),
    }
    if "solver" in cell.chosen:
        cells["solver_chosen"] = Cell(cell.chosen["solver"])
    for which, metric in METRIC.items():
        _timing_cells(cells, which, cell, cell.times.get(metric))
    for stem, metric in ERRORS.items():
        cells |= {
            f"{stem}_{name}": Cell(value) for name, value in _worst_and_median(cell, metric).items()
        }
    for name in SCALARS:
        if values := cell.values.get(name):
            cells[name] = Cell(max(values))
    if cell.status != OK:
        cells |= {
            column.name: Cell(status=cell.status)
            for column in COLUMNS
            if column.span in ("Exactness", "Gradient") and column.name not in cells
        }
    elif floors := cell.values.get("floor_s"):
        _floor_cells(cells, min(floors))  # the highest peak that any process reached
    return Row(cell.label, cells, role=case.role)


def _floor_cells(cells: dict[str, Cell], floor_s: float) -> None:
    """Fill in the least time that the machine could take, and its share of the measured time."""
    cells["floor_s"] = Cell(floor_s)
    if forward_s := cells["f_s"].value:
        cells["roof_share"] = Cell(floor_s / forward_s)
        if floor_s > SLACK * forward_s:
            cells["status"] = Cell(IMPOSSIBLE)


def _timing_cells(
    cells: dict[str, Cell], which: str, cell: MeasuredCell, timing: Timing | None
) -> None:
    names = (f"{which}_s", f"{which}_per_matrix_s", f"ratio_{which}")
    if timing is None and which == "fb" and not cell.case.gradient:
        return
    if timing is None:
        state = "not measured" if cell.status == OK else cell.status
        cells |= dict.fromkeys(names, Cell(status=state, detail=cell.detail))
        return
    seconds = timing.absolute
    batch = max(1, cell.case.batch) * (len(cell.case.sizes) or 1)
    cells[names[0]] = Cell(seconds.mean, seconds.low, seconds.high)
    cells[names[1]] = Cell(
        seconds.mean / batch,
        *(None if bound is None else bound / batch for bound in (seconds.low, seconds.high)),
    )
    for what in ("low", "high", "median", "std"):
        cells[f"{which}_{what}_s"] = Cell(getattr(seconds, what))
    cells[f"{which}_iterations"], cells[f"{which}_replicates"] = (
        Cell(seconds.iterations),
        Cell(seconds.replicates),
    )
    if timing.ratio is not None:
        cells[names[2]] = Cell(
            timing.ratio.estimate, timing.ratio.low, timing.ratio.high, verdict=timing.verdict
        )
        cells[f"verdict_{which}"] = Cell(timing.verdict)
    else:
        cells[names[2]] = (
            Cell(1.0, printed="1")
            if cell.case.role == BASELINE
            else Cell(status="baseline failed" if cell.status == OK else cell.status)
        )


def _worst_and_median(cell: MeasuredCell, metric: str) -> dict[str, float]:
    """Worst and median over the batch, each the largest over all replicates."""
    return {
        name: max(values)
        for name in ("worst", "median")
        if (values := cell.values.get(f"{metric}_{name}"))
    }


def _best(rows: Iterable[Row], spectrum: str) -> Row | None:
    """The fastest row of a spectrum that is exact, finite and within its promised error: by F+B, or
    by F where no row has F+B.
    """
    sound = [row for row in rows if row.cell("spectrum").value == spectrum and _is_sound(row)]
    for name in ("fb_s", "f_s"):
        timed = [row for row in sound if row.cell(name).value is not None]
        if timed:
            return min(timed, key=lambda row: row.cell(name).value)
    return None


def _is_sound(row: Row) -> bool:
    exact = str(row.cell("exact").value or "yes").startswith("yes")
    return exact and row.cell("status").value in ("ok", UNSTABLE) and not _faults(row)


def _faults(row: Row) -> list[str]:
    """Faults in a row's accuracy or time, as text."""
    promised = row.cell("promised_error").value
    faults = []
    if row.cell("status").value == IMPOSSIBLE:
        floor = number(row.cell("floor_s").value, "seconds")
        faults.append(f"impossible: below the {floor} s that this machine's own peak allows")
    for what, stem, share, slack in (
        ("W", "w_error", "w_nonfinite_share", 1.0),
        ("gradient", "gradient_error", "gradient_nonfinite_share", GRADIENT_SLACK),
    ):
        error, nonfinite_share = row.cell(f"{stem}_worst").value, row.cell(share).value
        if nonfinite_share:
            faults.append(
                f"{what} not finite for {number(nonfinite_share, 'share')} of the matrices"
            )
        if promised is not None and error is not None and error > slack * promised:
            faults.append(
                f"{what} off by {number(error, 'error')} where "
                f"{number(slack * promised, 'error')} is allowed"
            )
    return faults


def _notes(summary: RunSummary, sections: tuple[Section, ...]) -> Iterable[str]:
    yield notes.protocol_note(summary)
    for text in (
        notes.paired_note(summary.cells),
        notes.noise_note(summary),
        notes.disturbance_note(summary),
    ):
        if text:
            yield text
    yield from cautions(summary)
    if any(row.mark == BEST for section in sections for row in section.rows):
        yield (
            f"{BEST} marks the fastest exact solver (forward and backward, where both were "
            "measured) of a size and "
            "spectrum that kept its promise and lost no matrix."
        )
    inexact = {
        row.label: row.cell("exact").value
        for section in sections
        for row in section.rows
        if str(row.cell("exact").value).startswith("no")
    }
    if inexact:
        yield (
            "Not exact by design, so never marked: "
            f"{'; '.join(f'{label} ({why[3:].strip()})' for label, why in inexact.items())}."
        )
    if any(cell.values.get("floor_s") for cell in summary.cells):
        yield (
            "W is Σ^(-1/p), g a gradient whose second moment is Σ. Floor / F is the share of the "
            "time in which this machine, at the peak it reached beside the run, could have done "
            "what the solver cannot do without; above 120 % the time is impossible."
        )
    yield (
        "Errors are relative to float64 and taken from the outputs that were timed; worst "
        "and median are over the batch."
    )
