"""Microseconds on a GPU: windows of so many calls that an event's grain does not matter, with the
L2 cache hot, or flushed before each call.
"""

import math
from collections.abc import Callable

import torch

from swbench.clock.events import EventStopwatch, Gpu
from swbench.probes import modes
from swbench.probes.workload import Unsupported
from swbench.result import Measurement

WINDOW_S = 1e-3
"""A window lasts at least this long: an event's grain is half a microsecond, a graph's launch
several.
"""

SAMPLE_S, MOST_WINDOWS = 0.01, 20
"""Windows are repeated until a sample takes about this long, at most so often; heuristic."""

MOST_CALLS = 500
"""Calls in a window; a graph of more takes seconds to instantiate. Heuristic."""

Passes = dict[str, Callable[[], object]]


class Windows:
    """Times each of `passes` (name to one call of it) in turn: captured in graphs if `graph`, each
    call after a flush of the L2 if `cold`.
    """

    def __init__(self, gpu: Gpu, passes: Passes, *, graph: bool, cold: bool) -> None:
        self._gpu, self._graph, self._watch = gpu, graph, EventStopwatch(gpu)
        self._flush = Flush(gpu) if cold else None
        self._runs: dict[str, tuple[Callable[[], None], int, int]] = {}
        for name, call in passes.items():
            (gpu.aside if graph else lambda step: step())(
                lambda call=call: [call() for _ in range(3)]
            )
            self._runs[name] = self._sized(name, call)
        self.warmed()

    def warmed(self) -> None:
        """Forget what was timed so far."""
        self._watch.take()

    def sample(self) -> dict[str, float]:
        """Seconds of one call of each pass: the mean over its windows."""
        found = {}
        for name, (run, calls, windows) in self._runs.items():
            found[f"{name}_s"] = self._timed(name, run, calls, windows)
        return found

    def finish(self) -> list[Measurement]:
        """Every window (`<pass>_event_s`, for one call), the calls in a window, and `l2_flushes`
        where there were any.
        """
        found = [
            Measurement(f"{name}_event_s", "s", tuple(values))
            for name, values in self._watch.take().items()
        ]
        found += [
            Measurement(f"{name}_window_calls", "1", (float(calls),))
            for name, (_, calls, _) in self._runs.items()
        ]
        return (
            found
            if self._flush is None
            else [*found, Measurement("l2_flushes", "1", (float(self._flush.verified()),))]
        )

    def _sized(self, name: str, call: Callable[[], object]) -> tuple[Callable[[], None], int, int]:
        """A window of `call`, how many calls it has, and how many windows make a sample."""
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
    """Reads and writes a buffer of twice the L2, so that nothing else stays in it. Raises
    Unsupported where the size of the L2 is not known.
    """

    def __init__(self, gpu: Gpu) -> None:
        if not gpu.cache_bytes:
            raise Unsupported(
                "this torch does not say how large the L2 cache is, so it cannot be "
                "flushed; use cache hot"
            )
        self._buffer = torch.randint(
            1 << 20, (2 * gpu.cache_bytes // 4,), dtype=torch.int32, device=gpu.place
        )
        self._sum = self._buffer.sum(dtype=torch.int64)
        self.times = 0

    def __call__(self) -> None:
        self._buffer.add_(1)
        self.times += 1

    def verified(self) -> int:
        """How often all of the buffer was touched. Raises RuntimeError where that is not as often
        as it was asked to be.
        """
        touched = int((self._buffer.sum(dtype=torch.int64) - self._sum).item())
        if touched != self.times * self._buffer.numel():
            raise RuntimeError(
                f"the L2 was not flushed {self.times} times: its buffer was touched "
                f"{touched / self._buffer.numel():g} times"
            )
        return self.times
