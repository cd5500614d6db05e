"""Tables of network suites, as in the supplement: a row for each model and solver, CPU and GPU side
by side, the paper's figures beside ours.
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
from swbench.report.row_pairing import DEVICES, DeviceSetting, Pairing, SharedSetting, pairings
from swbench.report.run_summary import MeasuredCell, RunSummary, is_control
from swbench.report.table import Cell, Row, Section, Table
from swbench.result import OK
from swbench.stats.intervals import Interval
from swbench.stats.verdict import resolved

NO_GPU, NOT_RUN = "no GPU", "not run"
NOT_COUNTED = "not counted"
FLOPS = ("flops", "flops_paper")
"""The metrics whose counts may carry a note: that operations were left out, or that the network
cannot be traced.
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
    """The table of a run of a network suite. `paper` is the supplement's table for comparison;
    without it, or if it is empty, nothing is compared.
    """
    summary = RunSummary(run)
    builder = _Builder(summary, paper if paper is not None and paper.rows else None)
    sections = builder.sections()
    filled_columns = frozenset(
        name
        for section in sections
        for row in section.rows
        for name, cell in row.cells.items()
        if cell.value is not None
    )
    timed = "time" in run.plan.metrics or any(cell.times for cell in summary.cells)
    baseline = next((cell for cell in summary.cells if cell.case.role == BASELINE), None)
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
            counted=any(name in filled_columns for name in COUNTS),
            filled_columns=filled_columns,
        ),
        sections=sections,
        warnings=notes.warnings_of(summary, no_gpu=builder.no_gpu and timed),
        notes=tuple(builder.notes(timed)),
        footer=notes.footer_of(summary),
        meta={
            "quick": run.plan.protocol.quick,
            "complete": run.complete,
            "confidence": summary.confidence,
            "created": run.created,
        },
        source=run,
    )


def _resolve(cells: dict[str, Cell]) -> None:
    """Set the verdict of ratios whose interval holds both the paper's ratio and 1."""
    for device, which in SLOTS:
        name = f"ratio_{device}_{which}"
        ours, theirs = cells.get(name), cells.get(f"paper_{name}")
        if ours is None or ours.low is None or theirs is None or theirs.value is None:
            continue
        verdict = resolved(ours.verdict, ours.low, ours.high, theirs.value)
        if verdict != ours.verdict:
            cells[name] = ours._replace(verdict=verdict)
            cells[f"verdict_{device}_{which}"] = Cell(verdict)


def _baseline_name(cell: MeasuredCell | None) -> str:
    return "baseline" if cell is None else "BN" if cell.case.norm == "bn" else cell.label


class _Builder:
    """Rows and sections of one run."""

    def __init__(self, summary: RunSummary, paper: PaperTable | None) -> None:
        self.summary, self.run, self.paper = summary, summary.run, paper
        self.cells = [cell for cell in summary.cells if not is_control(cell)]
        self.no_gpu = not any(
            device_kind(cell.case.device) == "cuda" for cell in self.cells
        ) and not has_gpu(self.run.environment)

    def sections(self) -> tuple[Section, ...]:
        """One section a setting, rows in the order of the plan."""
        by_setting: dict[tuple[SharedSetting, str, DeviceSetting | None], list[MeasuredCell]] = {}
        for cell in self.cells:
            by_setting.setdefault(
                (
                    SharedSetting.of(cell),
                    device_kind(cell.case.device),
                    DeviceSetting.of(cell.case),
                ),
                [],
            ).append(cell)
        found_sections = []
        for shared, pair in pairings(self.cells):
            cpu, gpu = (
                _by_row(by_setting.get((shared, device, setting), ()))
                for device, setting in zip(DEVICES, pair, strict=True)
            )
            rows = tuple(
                self._row(shared, pair, cpu.get(identity), gpu.get(identity))
                for identity in dict.fromkeys([*cpu, *gpu])
            )
            control = {
                f"ratio_{device}_{which}": Cell(noise.estimate, noise.low, noise.high)
                for device, cells in zip(SPANS, (cpu, gpu), strict=True)
                for which, metric in METRIC.items()
                if (noise := self._noise(cells.values(), metric)) is not None
            }
            found_sections.append(Section(self._title(shared, pair), rows, control=control))
        return tuple(found_sections)

    def _noise(self, cells: Iterable[MeasuredCell], metric: str) -> Interval | None:
        """The noise floor of the first group that has one."""
        noise = self.summary.noise
        keys = ((cell.group.name, metric) for cell in cells)
        return next((noise[key] for key in keys if key in noise), None)

    def _title(self, shared: SharedSetting, pair: Pairing) -> str:
        devices = [
            f"{name} {setting.words()}"
            for name, setting in zip(SPANS.values(), pair, strict=True)
            if setting is not None
        ]
        return f"{shared.words()}; {'; '.join(devices)}"

    def _row(
        self,
        shared: SharedSetting,
        pair: Pairing,
        cpu: MeasuredCell | None,
        gpu: MeasuredCell | None,
    ) -> Row:
        either = cpu if cpu is not None else gpu
        case = either.case
        cells = {
            "model": Cell(case.model),
            "norm": Cell(case.norm),
            "layers": Cell(case.layers),
            "solver": Cell(case.solver),
            "label": Cell(either.label),
            "group_size": Cell(case.group if case.solver is not None else None),
            "image": Cell(f"{case.image[0]}x{case.image[1]}"),
            "dtype": Cell(case.dtype),
            "layout": Cell(case.layout),
            "phase": Cell(case.phase),
            "suite": Cell(self.run.plan.suite),
            "run": Cell(self.run.id),
        }
        for device, cell, setting in zip(SPANS, (cpu, gpu), pair, strict=True):
            self._device(cells, device, cell, setting)
        measured = [cell for cell in (cpu, gpu) if cell is not None]
        cells |= self._counts(measured)
        cells |= self._paper_cells(shared, pair, case)
        _resolve(cells)
        cells["status"] = Cell(row_status(measured))
        cells["detail"] = Cell(
            "; ".join(" ".join(cell.detail.split()) for cell in measured if cell.detail) or None
        )
        return Row(either.label, cells, role=case.role)

    def _device(
        self,
        cells: dict[str, Cell],
        device: str,
        cell: MeasuredCell | None,
        setting: DeviceSetting | None,
    ) -> None:
        """Fill in the columns of one device."""
        if cell is None:
            state = NO_GPU if device == "gpu" and self.no_gpu else NOT_RUN
            cells[f"{device}_status"] = Cell(state)
            for which in PASSES:
                cells[f"{device}_{which}_s"] = cells[f"ratio_{device}_{which}"] = Cell(status=state)
            if setting is not None:
                cells[f"{device}_batch"] = Cell(setting.batch)
            return
        cells[f"{device}_status"] = Cell(cell.state)
        cells[f"{device}_batch"] = Cell(cell.case.batch)
        cells[f"{device}_mode"] = Cell(cell.case.mode)
        cells[f"{device}_processes"], cells[f"{device}_nodes"] = (
            Cell(cell.case.world),
            Cell(cell.case.nodes),
        )
        cells[f"{device}_case"] = Cell(cell.case.key)
        for what in ("solver", "kernels"):
            if what in cell.chosen:
                cells[f"{device}_{what}_chosen"] = Cell(cell.chosen[what])
        if device == "cpu":
            cells["cpu_threads"] = Cell(cell.case.threads)
        else:
            cells["gpu_device"] = Cell(cell.case.device)
        for which, metric in METRIC.items():
            timing_cells(cells, device, which, cell, cell.times.get(metric))
        device_cells(cells, device, cell)

    def _counts(self, cells: Sequence[MeasuredCell]) -> dict[str, Cell]:
        count_cells = {}
        failed = next((cell.status for cell in cells if cell.status != OK), NOT_MEASURED)
        for name, metric in COUNTS.items():
            value = next(
                (cell.value(metric) for cell in cells if cell.value(metric) is not None), None
            )
            bounded = any(_lower_bound(cell.counted, metric) for cell in cells)
            count_cells[name] = (
                Cell(status=failed) if value is None else Cell(value / 1e9, at_least=bounded)
            )
        for name in ("parameters", "peak_activation_bytes"):
            value = next((cell.value(name) for cell in cells if cell.value(name) is not None), None)
            if value is not None:
                count_cells[name] = Cell(value)
        return count_cells

    def _paper_cells(self, shared: SharedSetting, pair: Pairing, case: Case) -> dict[str, Cell]:
        row = self.paper.row(case.norm, case.layers) if self.paper is not None else None
        if row is None or shared.phase != TRAIN:  # the paper timed training steps only
            return {}
        paper_cells = {}
        if self.paper.same_image(shared.image):
            paper_cells["paper_gflops"] = Cell(row.value("gflops"), printed=row.printed["gflops"])
        settings = dict(zip(SPANS, pair, strict=True))
        for device, which in SLOTS:
            setting = settings[device]
            batch = setting.batch if setting is not None else self._paper_batch(device, settings)
            if not self.paper.applies(shared.image, "cuda" if device == "gpu" else "cpu", batch):
                continue
            name = f"{device}_{which}_s"
            paper_cells[f"paper_{name}"] = Cell(row.value(name), printed=row.printed[name])
            if case.role != BASELINE:
                paper_cells[f"paper_ratio_{device}_{which}"] = Cell(
                    self.paper.ratio(case.norm, case.layers, name)
                )
        if self.paper.name == "table2" and (case.norm, case.layers) in CITED_MIOU:
            ade, city = CITED_MIOU[case.norm, case.layers]
            (
                paper_cells["cited_miou_ade20k_percent"],
                paper_cells["cited_miou_cityscapes_percent"],
            ) = (
                Cell(ade),
                Cell(city),
            )
        return paper_cells

    def _paper_batch(self, device: str, settings: dict[str, DeviceSetting | None]) -> int | None:
        """The paper's batch for a device that was not measured, in the section in which the other
        device ran at the paper's batch; elsewhere None.
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
        """The notes on marks and sources."""
        if timed:
            yield notes.protocol_note(self.summary, paper=self.paper is not None)
            for text in (
                notes.fitting_note(self.summary),
                notes.paired_note(self.cells),
                notes.noise_note(self.summary),
                notes.disturbance_note(self.summary),
            ):
                if text:
                    yield text
            yield from cautions(self.summary)
        chosen = {}
        for cell in self.cells:
            if cell.chosen and cell.case.solver is not None:
                words = ", ".join(
                    f"{what} {name}"
                    for what, name in cell.chosen.items()
                    if what not in notes.REPORTED_ELSEWHERE
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
    """Whether the rule left operations out, so that the figure is a lower bound."""
    return counted.get(metric, "").startswith(NOT_COUNTED)


def _by_row(cells: Iterable[MeasuredCell]) -> dict[tuple, MeasuredCell]:
    """Cells by the fields that identify a row. If groups share a baseline, only that of the first
    group is taken.
    """
    rows: dict[tuple, MeasuredCell] = {}
    for cell in cells:
        case = cell.case
        rows.setdefault(
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
    return rows


def has_gpu(environment) -> bool:
    """Whether the environment record names a CUDA device."""
    return bool(environment.get("gpus"))
