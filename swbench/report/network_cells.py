"""The cells that one measured case fills in a network table: its times and ratios, its device, and
the status of its row.
"""

from __future__ import annotations

from collections.abc import Sequence

from swbench.case import BASELINE, TRAIN, device_kind
from swbench.formatting import status_words
from swbench.report.columns import SPANS
from swbench.report.run_summary import Measured, Timing
from swbench.report.table import Cell
from swbench.result import FORWARD, FORWARD_BACKWARD, OK

NOT_MEASURED, NO_BACKWARD = "not measured", "no backward pass"
METRIC = {"f": FORWARD, "fb": FORWARD_BACKWARD}


def row_status(cells: Sequence[Measured]) -> str:
    """One word for a row: `ok`, or the state of each device that is not, in the order CPU, GPU."""
    found = []
    for cell in cells:
        if cell.state == OK:
            continue
        device = SPANS["gpu" if device_kind(cell.case.device) == "cuda" else "cpu"]
        share = (
            f" in {cell.failed} of {cell.replicates}" if 0 < cell.failed < cell.replicates else ""
        )
        found.append((device, status_words(cell.state) + share))
    if not found:
        return OK
    if len(found) == len(cells) and len({words for _, words in found}) == 1:
        return found[0][1]
    return "; ".join(f"{device} {words}" for device, words in found)


def timing_cells(
    cells: dict[str, Cell], device: str, which: str, one: Measured, timing: Timing | None
) -> None:
    """Seconds, ratio and spread of one pass on one device."""
    if timing is None:
        absent = NO_BACKWARD if one.case.phase != TRAIN and which == "fb" else NOT_MEASURED
        state = absent if one.status == OK else one.status
        cells[f"{device}_{which}_s"] = cells[f"ratio_{device}_{which}"] = Cell(
            status=state, detail=one.detail
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
    elif one.case.role == BASELINE:
        cells[name] = Cell(1.0, printed="1")
    else:
        cells[name] = Cell(status="baseline failed" if one.status == OK else one.status)
    if timing.quiet is not None:
        cells[f"ratio_undisturbed_{device}_{which}"] = Cell(
            timing.quiet.estimate, timing.quiet.low, timing.quiet.high
        )


def device_cells(cells: dict[str, Cell], device: str, one: Measured) -> None:
    """What is measured of a device outside the rounds."""
    peak = one.values.get("peak_bytes", ())
    if peak:
        cells[f"{device}_peak_bytes"] = Cell(max(peak))
    if one.case.mode == "compile" and (samples := one.values.get("compile_s", ())):
        cells[f"{device}_compile_s"] = Cell(sum(samples) / len(samples))
    if device != "gpu":
        return
    if samples := one.values.get("gpu_utilisation", ()):
        cells["gpu_utilisation_percent"] = Cell(100 * sum(samples) / len(samples))
        cells["gpu_utilisation_samples"] = Cell(len(samples))
    for metric, name in (
        *((("gpu_busy_s", "gpu_fb_busy_s"),) if one.case.phase == TRAIN else ()),
        ("gpu_power", "gpu_power_w"),
        ("gpu_energy", "gpu_energy_j"),
        ("gpu_sm_clock", "gpu_sm_hz"),
    ):
        if samples := one.values.get(metric, ()):
            cells[name] = Cell(sum(samples) / len(samples))
    for metric, name in (
        ("peak_reserved_bytes", "gpu_peak_reserved_bytes"),
        ("block_iterations", "gpu_block_iterations"),
    ):
        if samples := one.values.get(metric, ()):
            cells[name] = Cell(max(samples))
    if one.wall_s is not None and one.case.phase == TRAIN:
        cells["gpu_fb_wall_s"] = Cell(one.wall_s)
    if one.busy_share is not None:
        cells["gpu_busy_share"] = Cell(one.busy_share)
        cells["gpu_bound"] = Cell("launches" if one.launch_bound else "kernels")
