"""A loop that keeps a GPU as busy as the case can, long enough for NVML's slow averages."""

import threading
from collections.abc import Callable
from typing import ClassVar

from swbench.clock.events import Gpu
from swbench.probes.nvml import NvmlDevice
from swbench.result import Measurement

LEAST_S = {"utilisation": 10.0, "energy": 5.0}
"""Seconds that the loop lasts for each metric. NVML averages utilisation over up to a second, and
counts energy in steps of up to 0.1 s.
"""

SETTLE_S = 1.0
"""Seconds of load before the first reading: NVML's longest window."""

PERIOD_S = 0.2
"""Seconds between readings; a shorter period would read the same window twice."""


class Sampler:
    """Reads `device` from a thread of its own. Readings between iterations would always fall on the
    same part of an iteration.

    NVML's calls let other threads run. `wait`, given in tests, takes seconds and returns true when
    it is time to stop.
    """

    UNITS: ClassVar[dict[str, str]] = {
        "gpu_utilisation": "1",
        "gpu_power": "W",
        "gpu_sm_clock": "Hz",
    }

    def __init__(self, device: NvmlDevice, wait: Callable[[float], bool] | None = None) -> None:
        self._readings = (device.utilisation, device.power_w, device.sm_hz)
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._samples: dict[str, list[float]] = {name: [] for name in self.UNITS}
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def start(self) -> None:
        """Read now, and every `PERIOD_S` from now on."""
        self._thread.start()

    def stop(self) -> list[Measurement]:
        """All readings, as measurements; those that NVML never gave are left out."""
        self._stop.set()
        self._thread.join()
        return [
            Measurement(name, self.UNITS[name], tuple(values))
            for name, values in self._samples.items()
            if values
        ]

    def _run(self) -> None:
        while True:
            for samples, reading in zip(self._samples.values(), self._readings, strict=True):
                if (value := reading()) is not None:
                    samples.append(value)
            if self._wait(PERIOD_S):
                return


def observe(
    queue: Callable[[], None],
    iterations: int,
    gpu: Gpu,
    device: NvmlDevice,
    metrics: tuple[str, ...],
    sampler: Sampler | None = None,
) -> list[Measurement]:
    """Samples of `gpu_utilisation` (a share), `gpu_power` (W) and `gpu_sm_clock` (Hz), and
    `gpu_energy` (J an iteration), for the names in `metrics`.

    `queue` gives the device `iterations` iterations without waiting. At most two blocks are in
    flight: the host waits for the one before last, so the device has no gap and the queue no end.
    `gpu_loop` holds the loop's seconds.
    """
    wanted = [LEAST_S[metric] for metric in metrics if metric in LEAST_S]
    if not wanted:
        return []
    now, loop, sampler = gpu.clock.now, _BlockLoop(queue, gpu), sampler or Sampler(device)
    start_s = now()
    while now() - start_s < SETTLE_S:
        loop.queue_block()
    gpu.synchronise()
    before_j, start_s, blocks = device.energy_j(), now(), loop.blocks
    sampler.start()
    try:
        while now() - start_s < max(wanted):
            loop.queue_block()
        gpu.synchronise()
        loop_s, after_j = now() - start_s, device.energy_j()
    finally:
        measurements = sampler.stop()
    if "utilisation" not in metrics:
        measurements = [
            measurement for measurement in measurements if measurement.metric != "gpu_utilisation"
        ]
    if before_j is not None and after_j is not None:
        measurements.append(
            Measurement(
                "gpu_energy", "J", ((after_j - before_j) / ((loop.blocks - blocks) * iterations),)
            )
        )
    return [*measurements, Measurement("gpu_loop", "s", (loop_s,))]


class _BlockLoop:
    """Blocks in a row, each queued when the block before the previous one has ended."""

    def __init__(self, queue: Callable[[], None], gpu: Gpu) -> None:
        self._queue, self._ends = queue, [gpu.event(), gpu.event()]
        self.blocks = 0

    def queue_block(self) -> None:
        end = self._ends[self.blocks % 2]
        if self.blocks >= 2:
            end.synchronize()
        self._queue()
        end.record()
        self.blocks += 1
