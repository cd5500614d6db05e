"""Workloads on a GPU whose true time is known: a number of cycles, a product that triton's do_bench
times too, and a network with a known delay.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace

import torch

from swbench.case import Case
from swbench.clock import EventStopwatch, Gpu
from swbench.clock.cuda import gpu_for
from swbench.probes.event_windows import Windows
from swbench.probes.network import NetworkWorkload
from swbench.probes.nvml import NvmlDevice, nvml_device
from swbench.probes.workload import Unsupported
from swbench.result import FORWARD, FORWARD_BACKWARD, Measurement
from swbench.selftest.workloads import DELAY, TRUTH, known_value

CYCLES, SIDE = "cycles", "side"

CALIBRATION_CYCLES = 20_000_000
"""Cycles of the spin that calibrates the device's clock rate: about 10 ms at 2 GHz, long compared
with a launch, short compared with a change of clocks.
"""


class CycleWorkload:
    """Spins for a known number of cycles (`case.solver` is, for example, `cycles=20000000`), and
    reports their true time by the clock that NVML reads meanwhile, if it does.
    """

    def __init__(self, case: Case, gpu: Gpu | None = None, nvml: NvmlDevice | None = None) -> None:
        self._gpu = _gpu(case, gpu)
        self._cycles, self._watch = int(known_value(case, CYCLES)), EventStopwatch(self._gpu)
        self._nvml = nvml or nvml_device(self._gpu.uuid)
        self.chosen: dict[str, str] = {}

    def call(self) -> dict[str, float]:
        self._watch.start()
        self._gpu.spin(self._cycles)
        self._watch.mark("forward")
        hz = self._nvml.sm_hz()  # while it counts
        return self._watch.read() | ({TRUTH: self._cycles / hz} if hz else {})

    def finish(self) -> list[Measurement]:
        return []


CLOCK_WARM_UP_S, READINGS = 0.3, 10
"""Seconds of products before the first reading, so that the clock has fallen to what the power cap
allows; and the number of readings by swbench and by do_bench in turn. Heuristics.
"""


class ProductWorkload:
    """A product of two bfloat16 matrices of `side`×`side`, each after a flush of the L2, timed by
    swbench and by triton's do_bench. The two take turns on a warm device, because the clock of an
    idle device differs.
    """

    def __init__(
        self,
        case: Case,
        gpu: Gpu | None = None,
        reference: Callable[[Callable[[], object]], float | None] | None = None,
    ) -> None:
        gpu = _gpu(case, gpu)
        side = int(known_value(case, SIDE))
        a, b = (torch.randn(side, side, device=gpu.device, dtype=torch.bfloat16) for _ in range(2))
        out = torch.empty_like(a)
        self._product, self._reference = lambda: torch.mm(a, b, out=out), reference or do_bench_s
        self._windows = Windows(gpu, {"forward": self._product}, graph=False, cold=True)
        self._gpu, self._watch = gpu, EventStopwatch(gpu)
        self.chosen: dict[str, str] = {}

    def call(self) -> dict[str, float]:
        self._warm_clock()
        ours, theirs = [], []
        for turn in range(READINGS):
            readings = [
                lambda: ours.append(self._windows.sample()[FORWARD]),
                lambda: theirs.append(self._reference(self._product)),
            ]
            for read in readings if turn % 2 else reversed(readings):
                read()
        truth = {} if None in theirs else {TRUTH: statistics.median(theirs)}
        return {FORWARD: statistics.median(ours)} | truth

    def _warm_clock(self) -> None:
        """Run products one after the other for about `CLOCK_WARM_UP_S`."""
        elapsed_s = 0.0
        while elapsed_s < CLOCK_WARM_UP_S:
            self._watch.start()
            for _ in range(READINGS):
                self._product()
            self._watch.mark("heat")
            elapsed_s += self._watch.read()["heat_s"]
        self._watch.take()

    def finish(self) -> list[Measurement]:
        return self._windows.finish()


def do_bench_s(call: Callable[[], object]) -> float | None:
    """Median seconds of a call by triton's do_bench, which flushes the L2 too, within about 30 ms;
    None without triton. Its own warm-up is as short as possible, because the device is warm
    already.
    """
    try:
        from triton.testing import do_bench
    except ImportError:
        return None
    return do_bench(call, warmup=1, rep=30, return_mode="median") * 1e-3


class DelayedGpuWorkload:
    """A network in blocks, as in every run on a GPU, with a spin at the end of every pass: a known
    share of the pass's time.

    The times of the passes and the device's cycles a second are measured once the network is warm.
    `case.solver` is, for example, `delay=0.05`.
    """

    memory = False

    def __init__(self, case: Case, gpu: Gpu | None = None, nvml: NvmlDevice | None = None) -> None:
        gpu = _gpu(case, gpu)
        self._share, self._watch = known_value(case, DELAY), _DelayingStopwatch(gpu)
        self._network = NetworkWorkload(replace(case, solver=None), self._watch, gpu, nvml)
        self._network.memory = False
        self.chosen: dict[str, str] = {}
        self._gpu = gpu

    def warmed(self) -> None:
        """Choose the cycles of the spins, now that clocks and libraries are warm."""
        if self._share and not self._watch.cycles:
            calls = [self._network.call() for _ in range(3)]
            forward_s, both_s = (
                statistics.median([sample[metric] for sample in calls])
                for metric in (FORWARD, FORWARD_BACKWARD)
            )
            hz = _rate_hz(self._gpu)
            self._watch.cycles = {
                "forward": round(self._share * forward_s * hz),
                "forward_backward": round(self._share * (both_s - forward_s) * hz),
            }
        self._network.warmed()

    def call(self) -> dict[str, float]:
        return self._network.call()

    def finish(self) -> list[Measurement]:
        return []


class _DelayingStopwatch(EventStopwatch):
    """A stopwatch that queues the spin of a pass before the pass's mark."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__(gpu)
        self.cycles: dict[str, int] = {}

    def mark(self, name: str, calls: int = 1) -> None:
        if cycles := self.cycles.get(name):
            self._gpu.spin(cycles)
        super().mark(name, calls)


def _rate_hz(gpu: Gpu) -> float:
    """Cycles a second of the device, by its events. It comes from two numbers of cycles, so that
    the time of a launch cancels.
    """
    watch, samples = EventStopwatch(gpu), []
    for cycles in (CALIBRATION_CYCLES, 2 * CALIBRATION_CYCLES) * 5:
        watch.start()
        gpu.spin(cycles)
        watch.mark("forward")
        samples.append(watch.read()[FORWARD])
    return CALIBRATION_CYCLES / (statistics.median(samples[1::2]) - statistics.median(samples[::2]))


def _gpu(case: Case, gpu_or_none: Gpu | None) -> Gpu:
    gpu = gpu_or_none or gpu_for(case.device)
    if gpu is None:
        raise Unsupported(f"torch sees no device {case.device!r} here")
    return gpu
