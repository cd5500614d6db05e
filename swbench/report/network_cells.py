"""The cells of one measured case in a network table: its times and ratios, its device, and the
status of its row.
"""

from __future__ import annotations

from collections.abc import Sequence

from swbench.case import BASELINE, TRAIN, device_kind
from swbench.formatting import status_words
from swbench.report.columns import SPANS
from swbench.report.run_summary import MeasuredCell, Timing
from swbench.report.table import Cell
from swbench.result import FORWARD, FORWARD_BACKWARD, OK

NOT_MEASURED, NO_BACKWARD = "not measured", "no backward pass"
METRIC = {"f": FORWARD, "fb": FORWARD_BACKWARD}


def row_status(cells: Sequence[MeasuredCell]) -> str:
    """The status of a row: `ok`, or the states of the devices that are not ok, in the order of
    `cells`; without the devices' names if all have the same state.
    """
    states = []
    for cell in cells:
        if cell.state == OK:
            continue
        device = SPANS["gpu" if device_kind(cell.case.device) == "cuda" else "cpu"]
        share = (
            f" in {cell.failed} of {cell.replicates}" if 0 < cell.failed < cell.replicates else ""
        )
        states.append((device, status_words(cell.state) + share))
    if not states:
        return OK
    if len(states) == len(cells) and len({words for _, words in states}) == 1:
        return states[0][1]
    return "; ".join(f"{device} {words}" for device, words in states)


def timing_cells(
    cells: dict[str, Cell], device: str, which: str, cell: MeasuredCell, timing: Timing | None
) -> None:
    """Fill in seconds, ratio and dispersion of one pass on one device."""
    if timing is None:
        absent = NO_BACKWARD if cell.case.phase != TRAIN and which == "fb" else NOT_MEASURED
        state = absent if cell.status == OK else cell.status
        cells[f"{device}_{which}_s"] = cells[f"ratio_{device}_{which}"] = Cell(
            status=state, detail=cell.detail
        )
        return
    seconds = timing.absolute
    cells[f"{device}_{which}_s"] = Cell(seconds.mean, seconds.low, seconds.high)
    for name, value in (
        ("low", seconds.low),
        ("high", seconds.high),
        ("median", seconds.median),
        ("std", seconds.std),
    ):
        cells[f"{device}_{which}_{name}_s"] = Cell(value)
    cells[f"{device}_{which}_iterations"] = Cell(seconds.iterations)
    cells[f"{device}_{which}_replicates"] = Cell(seconds.replicates)
    name = f"ratio_{device}_{which}"
    if timing.ratio is not None:
        cells[name] = Cell(
            timing.ratio.estimate, timing.ratio.low, timing.ratio.high, verdict=timing.verdict
        )
        cells[f"verdict_{device}_{which}"] = Cell(timing.verdict)
    elif cell.case.role == BASELINE:
        cells[name] = Cell(1.0, printed="1")
    else:
        cells[name] = Cell(status="baseline failed" if cell.status == OK else cell.status)
    if timing.undisturbed is not None:
        cells[f"ratio_undisturbed_{device}_{which}"] = Cell(
            timing.undisturbed.estimate, timing.undisturbed.low, timing.undisturbed.high
        )


def device_cells(cells: dict[str, Cell], device: str, cell: MeasuredCell) -> None:
    """Fill in what is measured outside the timed rounds: peak memory, seconds of compilation and,
    on a GPU, utilisation, power, energy and clocks.
    """
    peak = cell.values.get("peak_bytes", ())
    if peak:
        cells[f"{device}_peak_bytes"] = Cell(max(peak))
    if cell.case.mode == "compile" and (samples := cell.values.get("compile_s", ())):
        cells[f"{device}_compile_s"] = Cell(sum(samples) / len(samples))
    if device != "gpu":
        return
    if samples := cell.values.get("gpu_utilisation", ()):
        cells["gpu_utilisation_percent"] = Cell(100 * sum(samples) / len(samples))
        cells["gpu_utilisation_samples"] = Cell(len(samples))
    for metric, name in (
        *((("gpu_busy_s", "gpu_fb_busy_s"),) if cell.case.phase == TRAIN else ()),
        ("gpu_power", "gpu_power_w"),
        ("gpu_energy", "gpu_energy_j"),
        ("gpu_sm_clock", "gpu_sm_hz"),
    ):
        if samples := cell.values.get(metric, ()):
            cells[name] = Cell(sum(samples) / len(samples))
    for metric, name in (
        ("peak_reserved_bytes", "gpu_peak_reserved_bytes"),
        ("block_iterations", "gpu_block_iterations"),
    ):
        if samples := cell.values.get(metric, ()):
            cells[name] = Cell(max(samples))
    if cell.wall_s is not None and cell.case.phase == TRAIN:
        cells["gpu_fb_wall_s"] = Cell(cell.wall_s)
    if cell.busy_share is not None:
        cells["gpu_busy_share"] = Cell(cell.busy_share)
        cells["gpu_bound"] = Cell("launches" if cell.launch_bound else "kernels")
