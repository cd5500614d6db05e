"""Network suites as the supplement's tables: a row a model and solver, CPU and GPU side by side,
the paper's figures beside ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from swbench.case import BASELINE, TRAIN, Case, device_kind
from swbench.report import notes
from swbench.report.cautions import cautions
from swbench.report.columns import NETWORK_COLUMNS, PASSES, SLOTS, SPANS, panels
from swbench.report.network_cells import (
    METRIC,
    NOT_MEASURED,
    device_cells,
    row_status,
    timing_cells,
)
from swbench.report.paper import HARDWARE, PaperTable
from swbench.report.row_pairing import DEVICES, Frame, Pairing, Setting, pairings
from swbench.report.run_summary import Measured, MeasuredRun, is_control
from swbench.report.table import Cell, Row, Section, Table
from swbench.result import OK
from swbench.stats.intervals import Interval
from swbench.stats.verdict import resolved

NO_GPU, NOT_RUN = "no GPU", "not run"
NOT_COUNTED = "not counted"
FLOPS = ("flops", "flops_paper")
"""How the notes of counting begin, and are called, where a rule knows no cost for an operation or a
network cannot be traced at all.
"""

COUNTS = {
    "gflops_paper": "flops_paper",
    "gflops_fvcore": "flops_fvcore",
    "gflops_torch": "flops_torch",
    "gflops_solver": "flops_solver",
}

CITED_MIOU = {("swa", 14): (39.8, 76.2), ("swa", 7): (39.6, 75.7)}
"""(ADE20K, Cityscapes) mIoU in percent, by norm and whitened layers: what the supplement reports
for SW, section C. Never measured here.
"""


def network_table(run, paper: PaperTable | None) -> Table:
    """The table of a run of a network suite. `paper` is the supplement's table to set beside it;
    None or an empty one for none.
    """
    measured = MeasuredRun(run)
    builder = _Builder(measured, paper if paper is not None and paper.rows else None)
    sections = builder.sections()
    have = frozenset(
        name
        for section in sections
        for row in section.rows
        for name, cell in row.cells.items()
        if cell.value is not None
    )
    timed = "time" in run.plan.metrics or any(cell.times for cell in measured.cells)
    baseline = next((cell for cell in measured.cells if cell.case.role == BASELINE), None)
    return Table(
        title=run.plan.title,
        kind="network",
        suite=run.plan.suite,
        run=run.id,
        columns=NETWORK_COLUMNS,
        panels=panels(
            baseline=_baseline_name(baseline),
            solver=len(
                {row.cell("solver").value for section in sections for row in section.rows} - {None}
            )
            > 1,
            paper=builder.paper is not None,
            timed=timed,
            counted=any(name in have for name in COUNTS),
            have=have,
        ),
        sections=sections,
        warnings=notes.warnings_of(measured, no_gpu=builder.no_gpu and timed),
        notes=tuple(builder.notes(timed)),
        footer=notes.footer_of(measured),
        meta={
            "quick": run.plan.protocol.quick,
            "complete": run.complete,
            "confidence": measured.confidence,
            "created": run.created,
        },
        source=run,
    )


def _resolve(cells: dict[str, Cell]) -> None:
    """Mark the ratios whose interval holds the paper's as well as 1."""
    for device, which in SLOTS:
        name = f"ratio_{device}_{which}"
        ours, theirs = cells.get(name), cells.get(f"paper_{name}")
        if ours is None or ours.low is None or theirs is None or theirs.value is None:
            continue
        found = resolved(ours.verdict, ours.low, ours.high, theirs.value)
        if found != ours.verdict:
            cells[name] = ours._replace(verdict=found)
            cells[f"verdict_{device}_{which}"] = Cell(found)


def _baseline_name(cell: Measured | None) -> str:
    return "baseline" if cell is None else "BN" if cell.case.norm == "bn" else cell.label


class _Builder:
    """Rows and sections of one run."""

    def __init__(self, measured: MeasuredRun, paper: PaperTable | None) -> None:
        self.measured, self.run, self.paper = measured, measured.run, paper
        self.cells = [cell for cell in measured.cells if not is_control(cell)]
        self.no_gpu = not any(
            device_kind(cell.case.device) == "cuda" for cell in self.cells
        ) and not has_gpu(self.run.environment)

    def sections(self) -> tuple[Section, ...]:
        """One section a setting, rows in the order of the plan."""
        by_place: dict[tuple[Frame, str, Setting | None], list[Measured]] = {}
        for cell in self.cells:
            by_place.setdefault(
                (Frame.of(cell), device_kind(cell.case.device), Setting.of(cell.case)), []
            ).append(cell)
        found = []
        for frame, pair in pairings(self.cells):
            cpu, gpu = (
                _by_row(by_place.get((frame, device, setting), ()))
                for device, setting in zip(DEVICES, pair, strict=True)
            )
            rows = tuple(
                self._row(frame, pair, cpu.get(identity), gpu.get(identity))
                for identity in dict.fromkeys([*cpu, *gpu])
            )
            control = {
                f"ratio_{device}_{which}": Cell(noise.estimate, noise.low, noise.high)
                for device, cells in zip(SPANS, (cpu, gpu), strict=True)
                for which, metric in METRIC.items()
                if (noise := self._noise(cells.values(), metric)) is not None
            }
            found.append(Section(self._title(frame, pair), rows, control=control))
        return tuple(found)

    def _noise(self, cells: Iterable[Measured], metric: str) -> Interval | None:
        """The A/A interval of the first group that has one."""
        noise = self.measured.noise
        keys = ((cell.group.name, metric) for cell in cells)
        return next((noise[key] for key in keys if key in noise), None)

    def _title(self, frame: Frame, pair: Pairing) -> str:
        devices = [
            f"{name} {setting.words()}"
            for name, setting in zip(SPANS.values(), pair, strict=True)
            if setting is not None
        ]
        return f"{frame.words()}; {'; '.join(devices)}"

    def _row(self, frame: Frame, pair: Pairing, cpu: Measured | None, gpu: Measured | None) -> Row:
        chief = cpu if cpu is not None else gpu
        case = chief.case
        cells = {
            "model": Cell(case.model),
            "norm": Cell(case.norm),
            "layers": Cell(case.layers),
            "solver": Cell(case.solver),
            "label": Cell(chief.label),
            "group_size": Cell(case.group if case.solver is not None else None),
            "image": Cell(f"{case.image[0]}x{case.image[1]}"),
            "dtype": Cell(case.dtype),
            "layout": Cell(case.layout),
            "phase": Cell(case.phase),
            "suite": Cell(self.run.plan.suite),
            "run": Cell(self.run.id),
        }
        states = {}
        for device, one, setting in zip(SPANS, (cpu, gpu), pair, strict=True):
            states[device] = self._device(cells, device, one, setting)
        cells |= self._counts([one for one in (cpu, gpu) if one is not None])
        cells |= self._paper_cells(frame, pair, case)
        _resolve(cells)
        failed = [one for one in (cpu, gpu) if one is not None]
        cells["status"] = Cell(row_status(failed))
        cells["detail"] = Cell(
            "; ".join(" ".join(one.detail.split()) for one in failed if one.detail) or None
        )
        return Row(chief.label, cells, role=case.role)

    def _device(
        self, cells: dict[str, Cell], device: str, one: Measured | None, setting: Setting | None
    ) -> str:
        """Fill in the columns of one device; returns its status."""
        if one is None:
            state = NO_GPU if device == "gpu" and self.no_gpu else NOT_RUN
            cells[f"{device}_status"] = Cell(state)
            for which in PASSES:
                cells[f"{device}_{which}_s"] = cells[f"ratio_{device}_{which}"] = Cell(status=state)
            if setting is not None:
                cells[f"{device}_batch"] = Cell(setting.batch)
            return state
        cells[f"{device}_status"] = Cell(one.state)
        cells[f"{device}_batch"] = Cell(one.case.batch)
        cells[f"{device}_mode"] = Cell(one.case.mode)
        cells[f"{device}_processes"], cells[f"{device}_nodes"] = (
            Cell(one.case.world),
            Cell(one.case.nodes),
        )
        cells[f"{device}_case"] = Cell(one.case.key)
        for what in ("solver", "kernels"):
            if what in one.chosen:
                cells[f"{device}_{what}_chosen"] = Cell(one.chosen[what])
        if device == "cpu":
            cells["cpu_threads"] = Cell(one.case.threads)
        else:
            cells["gpu_device"] = Cell(one.case.device)
        for which, metric in METRIC.items():
            timing_cells(cells, device, which, one, one.times.get(metric))
        device_cells(cells, device, one)
        return one.state

    def _counts(self, cells: Sequence[Measured]) -> dict[str, Cell]:
        found = {}
        failed = next((one.status for one in cells if one.status != OK), NOT_MEASURED)
        for name, metric in COUNTS.items():
            value = next(
                (one.value(metric) for one in cells if one.value(metric) is not None), None
            )
            bounded = any(_lower_bound(one.counted, metric) for one in cells)
            found[name] = (
                Cell(status=failed) if value is None else Cell(value / 1e9, at_least=bounded)
            )
        for name in ("parameters", "peak_activation_bytes"):
            value = next((one.value(name) for one in cells if one.value(name) is not None), None)
            if value is not None:
                found[name] = Cell(value)
        return found

    def _paper_cells(self, frame: Frame, pair: Pairing, case: Case) -> dict[str, Cell]:
        row = self.paper.row(case.norm, case.layers) if self.paper is not None else None
        if row is None or frame.phase != TRAIN:  # its times are of training steps
            return {}
        found = {}
        if self.paper.same_image(frame.image):
            found["paper_gflops"] = Cell(row.value("gflops"), printed=row.printed["gflops"])
        settings = dict(zip(SPANS, pair, strict=True))
        for device, which in SLOTS:
            setting = settings[device]
            batch = setting.batch if setting is not None else self._paper_batch(device, settings)
            if not self.paper.applies(frame.image, "cuda" if device == "gpu" else "cpu", batch):
                continue
            name = f"{device}_{which}_s"
            found[f"paper_{name}"] = Cell(row.value(name), printed=row.printed[name])
            if case.role != BASELINE:
                found[f"paper_ratio_{device}_{which}"] = Cell(
                    self.paper.ratio(case.norm, case.layers, name)
                )
        if self.paper.name == "table2" and (case.norm, case.layers) in CITED_MIOU:
            ade, city = CITED_MIOU[case.norm, case.layers]
            found["cited_miou_ade20k_percent"], found["cited_miou_cityscapes_percent"] = (
                Cell(ade),
                Cell(city),
            )
        return found

    def _paper_batch(self, device: str, settings: dict[str, Setting | None]) -> int | None:
        """The batch under which the paper's figure stands in a device's empty column: the paper's
        own, in the section that is like the paper's.
        """
        from swbench.report.paper import SETTINGS

        setting = SETTINGS.get(self.paper.name, {})
        other = settings["gpu" if device == "cpu" else "cpu"]
        other_batch = setting.get("cuda" if device == "cpu" else "cpu")
        return (
            setting.get("cuda" if device == "gpu" else "cpu")
            if other is not None and other.batch == other_batch
            else None
        )

    def notes(self, timed: bool) -> Iterable[str]:
        """What the marks and the sources mean."""
        if timed:
            yield notes.protocol_note(self.measured, paper=self.paper is not None)
            for text in (
                notes.fitting_note(self.measured),
                notes.paired_note(self.cells),
                notes.noise_note(self.measured),
                notes.disturbance_note(self.measured),
            ):
                if text:
                    yield text
            yield from cautions(self.measured)
        chosen = {}
        for cell in self.cells:
            if cell.chosen and cell.case.solver is not None:
                words = ", ".join(
                    f"{what} {name}"
                    for what, name in cell.chosen.items()
                    if what not in notes.TOLD_APART
                )
                chosen.setdefault(f"{cell.case.solver} on {device_kind(cell.case.device)}: {words}")
        if chosen:
            yield f"Chosen at run time, by solver asked for: {'; '.join(chosen)}."
        uncounted = {
            text
            for cell in self.cells
            for name, text in cell.counted.items()
            if name in FLOPS and _lower_bound(cell.counted, name)
        }
        if uncounted:
            yield f"GFLOPs {'; '.join(sorted(uncounted))}."
        yield from notes.gpu_notes(self.cells)
        yield (
            "GFLOPs: 10⁹ operations an image by the rule inferred from the paper's printed "
            "figures; fvcore and torch count otherwise and stand beside it."
        )
        if self.paper is not None:
            yield (
                f"Paper: {self.paper.title} of the supplement ({HARDWARE}); other hardware, "
                "so compare ratios rather than seconds."
            )
        if self.paper is not None and self.paper.name == "table2":
            yield (
                "mIoU is cited from the supplement, which reports it for SW with 14 and 7 "
                "layers; it is not measured here."
            )


def _lower_bound(counted: Mapping[str, str], metric: str) -> bool:
    """Whether the rule left operations out, so that the figure is only a lower bound."""
    return counted.get(metric, "").startswith(NOT_COUNTED)


def _by_row(cells: Iterable[Measured]) -> dict[tuple, Measured]:
    """Cells by what makes a row. A baseline that several groups share stands once, from the first
    of them.
    """
    found: dict[tuple, Measured] = {}
    for cell in cells:
        case = cell.case
        found.setdefault(
            (
                case.model,
                case.norm,
                case.layers,
                case.solver,
                case.group if case.solver else None,
                case.phase,
            ),
            cell,
        )
    return found


def has_gpu(environment) -> bool:
    """Whether the environment record names a CUDA device."""
    return bool(environment.get("gpus"))
