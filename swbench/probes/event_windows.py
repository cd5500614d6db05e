"""Timing of microseconds on a GPU: windows of so many calls that an event's resolution does not
matter, with the L2 cache hot, or flushed before each call.
"""

import math
from collections.abc import Callable

import torch

from swbench.clock.events import EventStopwatch, Gpu
from swbench.probes import modes
from swbench.probes.workload import Unsupported
from swbench.result import Measurement

WINDOW_S = 1e-3
"""Least length of a window: an event's resolution is half a microsecond, and the launch of a graph
takes several.
"""

SAMPLE_S, MOST_WINDOWS = 0.01, 20
"""Windows are repeated until a sample takes about this long, at most so often; heuristic."""

MOST_CALLS = 500
"""Calls in a window; a graph of more takes seconds to instantiate. Heuristic."""

Passes = dict[str, Callable[[], object]]


class Windows:
    """Times each of `passes` (name → callable) in turn. With `graph` they are captured in CUDA
    graphs; with `cold` the L2 is flushed before each call.
    """

    def __init__(self, gpu: Gpu, passes: Passes, *, graph: bool, cold: bool) -> None:
        self._gpu, self._graph, self._watch = gpu, graph, EventStopwatch(gpu)
        self._flush = Flush(gpu) if cold else None
        self._runs: dict[str, tuple[Callable[[], None], int, int]] = {}
        for name, call in passes.items():
            (gpu.run_on_capture_stream if graph else lambda step: step())(
                lambda call=call: [call() for _ in range(3)]
            )
            self._runs[name] = self._window_size(name, call)
        self.warmed()

    def warmed(self) -> None:
        """Forget what was timed so far."""
        self._watch.take()

    def sample(self) -> dict[str, float]:
        """Seconds of one call of each pass: the mean over its windows."""
        samples_s = {}
        for name, (run, calls, windows) in self._runs.items():
            samples_s[f"{name}_s"] = self._timed(name, run, calls, windows)
        return samples_s

    def finish(self) -> list[Measurement]:
        """The seconds of every window (`<pass>_event_s`, for one call), the calls in a window
        (`<pass>_window_calls`), and `l2_flushes` where the L2 was flushed.
        """
        measurements = [
            Measurement(f"{name}_event_s", "s", tuple(values))
            for name, values in self._watch.take().items()
        ]
        measurements += [
            Measurement(f"{name}_window_calls", "1", (float(calls),))
            for name, (_, calls, _) in self._runs.items()
        ]
        return (
            measurements
            if self._flush is None
            else [*measurements, Measurement("l2_flushes", "1", (float(self._flush.verified()),))]
        )

    def _window_size(
        self, name: str, call: Callable[[], object]
    ) -> tuple[Callable[[], None], int, int]:
        """(a window of `call`, the calls in it, the windows in a sample)."""
        calls, most = 1, 1 if self._flush else MOST_CALLS
        while True:
            run = self._window(call, calls)
            self._timed(name, run, calls, 1)
            span_s = calls * self._timed(name, run, calls, 1)
            if span_s >= WINDOW_S or calls >= most:
                return run, calls, max(1, min(MOST_WINDOWS, round(SAMPLE_S / max(span_s, 1e-9))))
            calls = min(most, max(2 * calls, math.ceil(1.1 * calls * WINDOW_S / max(span_s, 1e-9))))

    def _window(self, call: Callable[[], object], calls: int) -> Callable[[], None]:
        def run() -> None:
            for _ in range(calls):
                call()

        return modes.capture(self._gpu, run).replay if self._graph else run

    def _timed(self, name: str, run: Callable[[], None], calls: int, windows: int) -> float:
        watch = self._watch
        for _ in range(windows):
            if self._flush is not None:
                self._flush()
            watch.start()
            run()
            watch.mark(name, calls)
        return watch.read()[f"{name}_s"]


class Flush:
    """Reads and writes a buffer of twice the size of the L2, so that nothing else stays in it.
    Raises Unsupported where torch does not know the size of the L2.
    """

    def __init__(self, gpu: Gpu) -> None:
        if not gpu.cache_bytes:
            raise Unsupported(
                "this torch does not say how large the L2 cache is, so it cannot be "
                "flushed; use cache hot"
            )
        self._buffer = torch.randint(
            1 << 20, (2 * gpu.cache_bytes // 4,), dtype=torch.int32, device=gpu.device
        )
        self._sum = self._buffer.sum(dtype=torch.int64)
        self.times = 0

    def __call__(self) -> None:
        self._buffer.add_(1)
        self.times += 1

    def verified(self) -> int:
        """The number of times that the full buffer was touched. Raises RuntimeError where that
        differs from the number of calls.
        """
        touched = int((self._buffer.sum(dtype=torch.int64) - self._sum).item())
        if touched != self.times * self._buffer.numel():
            raise RuntimeError(
                f"the L2 was not flushed {self.times} times: its buffer was touched "
                f"{touched / self._buffer.numel():g} times"
            )
        return self.times
