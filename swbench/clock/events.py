"""Timing on a GPU: an event at each mark, read when all work is done, so that the host never waits
between iterations.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

from swbench.clock.host import Clock


class Event(Protocol):
    """A point in the order of a device's work (`torch.cuda.Event` with timing)."""

    def record(self) -> None:
        """Put the point after everything that is queued so far."""

    def synchronize(self) -> None:
        """Wait until the device has reached the point."""

    def elapsed_time(self, end: Any) -> float:
        """Milliseconds from here to `end`, both in the past."""


class Graph(Protocol):
    """Captured work."""

    def replay(self) -> None:
        """Queue all of it again."""


class Gpu(Protocol):
    """The operations on a GPU that timing, capturing and profiling need: `CudaGpu`, or a fake in
    tests.
    """

    device: str
    """The device of tensors, as torch writes it."""

    clock: Clock
    """The host's clock, for what is timed around the device."""

    uuid: str
    """The device's UUID, without a prefix."""

    cache_bytes: int
    """The size of its L2 cache; 0 where that is not known."""

    def event(self) -> Event:
        """A new event."""

    def synchronise(self) -> None:
        """Wait until the device has finished all queued work."""

    def run_on_capture_stream(self, step: Callable[[], object]) -> None:
        """Run `step` on the stream on which graphs are captured, and wait for it: the warm-up that
        a capture needs.
        """

    def capture(self, step: Callable[[], object]) -> Graph:
        """The work that `step` queues, as a graph. Raises RuntimeError where `step` waits for the
        device.
        """

    def peak(self, step: Callable[[], object]) -> tuple[int, int]:
        """Peak bytes (allocated, reserved by the driver) during `step` beyond those before it."""

    def busy_s(self, step: Callable[[], object]) -> float | None:
        """Seconds during which at least one kernel or copy of `step` ran; None where the profiler
        saw none.
        """

    def spin(self, cycles: int) -> None:
        """Queue a kernel that counts so many of the device's cycles."""

    def memory(self) -> tuple[int, int]:
        """Peak bytes that this process has allocated so far, and the bytes of the device."""


class EventStopwatch:
    """A stopwatch for many windows in a row: for each a `start` and a `mark` after each pass, and
    one `read` at the end.

    It synchronises with the device before the first start and in `read`, never in between.
    `windows` holds the seconds of every window by pass until `take`.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._now = gpu, gpu.clock.now
        self._unused_events: list[Event] = []
        self._open: list[tuple[Event, list[tuple[str, int, Event]]]] = []
        self._start_s = 0.0
        self.windows: dict[str, list[float]] = {}

    def start(self) -> None:
        if not self._open:
            self._gpu.synchronise()
            self._start_s = self._now()
        self._open.append((self._record(), []))

    def mark(self, name: str, calls: int = 1) -> None:
        """The pass `name` has been queued, `calls` times over since the start of the window."""
        self._open[-1][1].append((name, calls, self._record()))

    def read(self) -> dict[str, float]:
        """Means for one call, over all windows: `<name>_s` from start to mark by the device's
        clock, and `<last>_wall_s` by the host's clock, from the first start to the end of the work.

        Raises RuntimeError where the events' times contradict their order: the device's clock is
        then unreliable.
        """
        self._gpu.synchronise()
        wall_s = self._now() - self._start_s
        spans: dict[str, list[float]] = {}
        last, calls_of_all = "", 0
        for start, marks in self._open:
            before_ms = 0.0
            for name, calls, event in marks:
                span_ms = start.elapsed_time(event)
                if not math.isfinite(span_ms) or span_ms < before_ms:
                    self._recycle_events()
                    raise RuntimeError(
                        f"events out of order: {name} ended {span_ms:g} ms after its start, "
                        f"{before_ms:g} ms was passed already"
                    )
                spans.setdefault(name, []).append(span_ms * 1e-3 / calls)
                before_ms, last = span_ms, name
            calls_of_all += marks[-1][1] if marks else 0
        self._recycle_events()
        for name, values in spans.items():
            self.windows.setdefault(name, []).extend(values)
        means = {f"{name}_s": math.fsum(values) / len(values) for name, values in spans.items()}
        return means | ({f"{last}_wall_s": wall_s / calls_of_all} if calls_of_all else {})

    def take(self) -> dict[str, list[float]]:
        """The seconds of every window since the last take, by pass, in order."""
        windows, self.windows = self.windows, {}
        return windows

    def _record(self) -> Event:
        event = self._unused_events.pop() if self._unused_events else self._gpu.event()
        event.record()
        return event

    def _recycle_events(self) -> None:
        self._unused_events += [
            event for start, marks in self._open for event in (start, *(mark[2] for mark in marks))
        ]
        self._open = []
