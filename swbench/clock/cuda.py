"""A CUDA device: events, graphs, memory and the time its kernels ran, all through torch."""

import functools
from collections.abc import Callable

import torch

from swbench.clock.busy import busy_s
from swbench.clock.events import Event, Graph
from swbench.clock.host import HostClock


class CudaGpu:
    """The device `cuda` or `cuda:N` of this process, which becomes its current one. Raises
    RuntimeError where torch has no such device.
    """

    def __init__(self, device: str) -> None:
        self.index = torch.device(device).index or 0
        self.device, self.clock = f"cuda:{self.index}", HostClock()
        torch.cuda.set_device(self.index)
        self._capture_stream: torch.cuda.Stream | None = None
        self._pool: object = None

    @property
    def uuid(self) -> str:
        """The device's UUID without the prefix that NVML gives it."""
        return str(torch.cuda.get_device_properties(self.index).uuid)

    @property
    def cache_bytes(self) -> int:
        """The size of the L2 cache; 0 where torch does not say."""
        return int(getattr(torch.cuda.get_device_properties(self.index), "L2_cache_size", 0))

    def event(self) -> Event:
        return torch.cuda.Event(enable_timing=True)

    def synchronise(self) -> None:
        torch.cuda.synchronize(self.index)

    def run_on_capture_stream(self, step: Callable[[], object]) -> None:
        """Uses the same stream as the capture, because autograd binds gradient accumulators to the
        stream of the pass that created them.
        """
        stream = self._get_capture_stream()
        stream.wait_stream(torch.cuda.current_stream(self.index))
        with torch.cuda.stream(stream):
            step()
        torch.cuda.current_stream(self.index).wait_stream(stream)
        self.synchronise()

    def capture(self, step: Callable[[], object]) -> Graph:
        """All graphs of the process share one memory pool, because no graph reads another's
        results. The networks together then need the memory of the largest.
        """
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        self.synchronise()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._get_capture_stream()):
            step()
        return graph

    def peak(self, step: Callable[[], object]) -> tuple[int, int]:
        self.synchronise()
        torch.cuda.empty_cache()
        allocated, reserved = (
            torch.cuda.memory_allocated(self.index),
            torch.cuda.memory_reserved(self.index),
        )
        torch.cuda.reset_peak_memory_stats(self.index)
        step()
        self.synchronise()
        return torch.cuda.max_memory_allocated(
            self.index
        ) - allocated, torch.cuda.max_memory_reserved(self.index) - reserved

    def busy_s(self, step: Callable[[], object]) -> float | None:
        self.synchronise()
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CUDA], acc_events=True
        ) as profiler:
            step()
            self.synchronise()
        return busy_s(profiler.profiler.kineto_results.events())

    def spin(self, cycles: int) -> None:
        torch.cuda._sleep(cycles)

    def memory(self) -> tuple[int, int]:
        return torch.cuda.max_memory_allocated(self.index), torch.cuda.get_device_properties(
            self.index
        ).total_memory

    def _get_capture_stream(self) -> torch.cuda.Stream:
        if self._capture_stream is None:
            self._capture_stream = torch.cuda.Stream(self.index)
        return self._capture_stream


@functools.cache
def gpu_for(device: str) -> CudaGpu | None:
    """The device of that name, one object a process; None where torch sees no such device."""
    index = torch.device(device).index or 0
    return (
        CudaGpu(device) if torch.cuda.is_available() and index < torch.cuda.device_count() else None
    )
