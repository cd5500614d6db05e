"""Workloads on a GPU whose true time is known: a count of cycles, a product beside triton's
do_bench, and a network with a known delay put in.
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
from swbench.selftest.workloads import DELAY, TRUTH, known

CYCLES, SIDE = "cycles", "side"

CALIBRATING = 20_000_000
"""Cycles by which the device's rate is read: about 10 ms at 2 GHz, long beside a launch, short
beside a change of clocks.
"""


class CycleWorkload:
    """Counts a known number of cycles (`case.solver` says `cycles=20000000`), and tells how long
    that is by the clock NVML reads meanwhile, where it does.
    """

    def __init__(self, case: Case, gpu: Gpu | None = None, nvml: NvmlDevice | None = None) -> None:
        self._gpu = _gpu(case, gpu)
        self._cycles, self._watch = int(known(case, CYCLES)), EventStopwatch(self._gpu)
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


HEATING_S, TURNS = 0.3, 10
"""How long products run before the first reading, so that the clock has come down to what the
power cap allows; and how many readings of ours and of do_bench's take turns. Heuristic.
"""


class ProductWorkload:
    """A product of two bfloat16 matrices of `side`×`side`, each after a flush of the L2, and what
    triton's do_bench reads of the very same call. Both in turn, warm: one that began from idle
    would be read at another clock.
    """

    def __init__(
        self,
        case: Case,
        gpu: Gpu | None = None,
        reference: Callable[[Callable[[], object]], float | None] | None = None,
    ) -> None:
        gpu = _gpu(case, gpu)
        side = int(known(case, SIDE))
        a, b = (torch.randn(side, side, device=gpu.device, dtype=torch.bfloat16) for _ in range(2))
        out = torch.empty_like(a)
        self._product, self._reference = lambda: torch.mm(a, b, out=out), reference or do_bench_s
        self._windows = Windows(gpu, {"forward": self._product}, graph=False, cold=True)
        self._gpu, self._watch = gpu, EventStopwatch(gpu)
        self.chosen: dict[str, str] = {}

    def call(self) -> dict[str, float]:
        self._heat()
        ours, theirs = [], []
        for turn in range(TURNS):
            readings = [
                lambda: ours.append(self._windows.sample()[FORWARD]),
                lambda: theirs.append(self._reference(self._product)),
            ]
            for read in readings if turn % 2 else reversed(readings):
                read()
        truth = {} if None in theirs else {TRUTH: statistics.median(theirs)}
        return {FORWARD: statistics.median(ours)} | truth

    def _heat(self) -> None:
        """Products one after the other for about `HEATING_S`."""
        taken_s = 0.0
        while taken_s < HEATING_S:
            self._watch.start()
            for _ in range(TURNS):
                self._product()
            self._watch.mark("heat")
            taken_s += self._watch.read()["heat_s"]
        self._watch.take()

    def finish(self) -> list[Measurement]:
        return self._windows.finish()


def do_bench_s(call: Callable[[], object]) -> float | None:
    """Median seconds of a call by triton's do_bench, which flushes the L2 too, in about 30 ms; None
    without triton. Warm before, it is told to warm up no more than it must.
    """
    try:
        from triton.testing import do_bench
    except ImportError:
        return None
    return do_bench(call, warmup=1, rep=30, return_mode="median") * 1e-3


class DelayedGpuWorkload:
    """A network in blocks as everywhere on a GPU, of which the device counts cycles at the end of
    every pass: a known share of what the pass takes.

    What a pass takes, and how many cycles a second the device counts, is read once the network is
    warm. `case.solver` says `delay=0.05`.
    """

    memory = False

    def __init__(self, case: Case, gpu: Gpu | None = None, nvml: NvmlDevice | None = None) -> None:
        gpu = _gpu(case, gpu)
        self._share, self._watch = known(case, DELAY), _Delaying(gpu)
        self._network = NetworkWorkload(replace(case, solver=None), self._watch, gpu, nvml)
        self._network.memory = False
        self.chosen: dict[str, str] = {}
        self._gpu = gpu

    def warmed(self) -> None:
        """Choose the cycles, now that clocks and libraries are warm."""
        if self._share and not self._watch.cycles:
            plain = [self._network.call() for _ in range(3)]
            forward_s, both_s = (
                statistics.median([one[metric] for one in plain])
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


class _Delaying(EventStopwatch):
    """Has the device count the cycles of a pass before it is marked."""

    def __init__(self, gpu: Gpu) -> None:
        super().__init__(gpu)
        self.cycles: dict[str, int] = {}

    def mark(self, name: str, calls: int = 1) -> None:
        if cycles := self.cycles.get(name):
            self._gpu.spin(cycles)
        super().mark(name, calls)


def _rate_hz(gpu: Gpu) -> float:
    """Cycles that the device counts a second, by its events: from two counts, so that what a launch
    takes cancels.
    """
    watch, taken = EventStopwatch(gpu), []
    for cycles in (CALIBRATING, 2 * CALIBRATING) * 5:
        watch.start()
        gpu.spin(cycles)
        watch.mark("forward")
        taken.append(watch.read()[FORWARD])
    return CALIBRATING / (statistics.median(taken[1::2]) - statistics.median(taken[::2]))


def _gpu(case: Case, given: Gpu | None) -> Gpu:
    gpu = given or gpu_for(case.device)
    if gpu is None:
        raise Unsupported(f"torch sees no device {case.device!r} here")
    return gpu
