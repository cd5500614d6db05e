"""Timing on a GPU: an event at each mark, read when all work is done, so that nothing waits between
iterations.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

from swbench.clock.host import Clock


class Event(Protocol):
    """A point in the order of a device's work (`torch.cuda.Event` with timing)."""

    def record(self) -> None:
        """The point is after everything queued so far."""

    def synchronize(self) -> None:
        """Wait until the device has come to the point."""

    def elapsed_time(self, end: Any) -> float:
        """Milliseconds from here to `end`, both in the past."""


class Graph(Protocol):
    """Captured work."""

    def replay(self) -> None:
        """Queue all of it again."""


class Gpu(Protocol):
    """What timing, capturing and profiling ask of a GPU: `CudaGpu`, or a fake in tests."""

    place: str
    """Where tensors go, as torch writes devices."""

    clock: Clock
    """The host's clock, for what is timed around the device."""

    uuid: str
    """The device's UUID, without a prefix."""

    cache_bytes: int
    """The size of its L2 cache; 0 where that is not known."""

    def event(self) -> Event:
        """A new event."""

    def synchronise(self) -> None:
        """Wait until the device has done everything it was given."""

    def aside(self, step: Callable[[], object]) -> None:
        """Run `step` on the stream on which graphs are captured, and wait for it: the warm-up that
        a capture needs.
        """

    def capture(self, step: Callable[[], object]) -> Graph:
        """The work that `step` queues, as a graph. Raises RuntimeError where `step` waits for the
        device.
        """

    def peak(self, step: Callable[[], object]) -> tuple[int, int]:
        """The most bytes allocated, and reserved from the driver, at once during `step` beyond
        those before it.
        """

    def busy_s(self, step: Callable[[], object]) -> float | None:
        """Seconds during which at least one kernel or copy of `step` ran; None where the profiler
        saw none.
        """

    def spin(self, cycles: int) -> None:
        """Queue a kernel that counts so many of the device's cycles."""

    def memory(self) -> tuple[int, int]:
        """The most bytes this process has had allocated so far, and the bytes of the device."""


class EventStopwatch:
    """A stopwatch for many windows in a row: `start`, a `mark` after each pass, again and again,
    then one `read`.

    The device is waited for before the first start and in `read`, never in between. `windows` keeps
    every window's seconds by pass until `take`.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu, self._now = gpu, gpu.clock.now
        self._spare: list[Event] = []
        self._open: list[tuple[Event, list[tuple[str, int, Event]]]] = []
        self._began = 0.0
        self.windows: dict[str, list[float]] = {}

    def start(self) -> None:
        if not self._open:
            self._gpu.synchronise()
            self._began = self._now()
        self._open.append((self._record(), []))

    def mark(self, name: str, calls: int = 1) -> None:
        """The pass `name` has been queued, `calls` times over since the start of the window."""
        self._open[-1][1].append((name, calls, self._record()))

    def read(self) -> dict[str, float]:
        """Means over the windows: `<name>_s` from start to mark by the device's clock, for one
        call; `<last>_wall_s`, the host's, for all of a window.

        Raises RuntimeError where events do not lie in the order in which they were recorded: the
        device's clock is not to be believed.
        """
        self._gpu.synchronise()
        wall_s = self._now() - self._began
        spans: dict[str, list[float]] = {}
        last, calls_of_all = "", 0
        for began, marks in self._open:
            before_ms = 0.0
            for name, calls, event in marks:
                span_ms = began.elapsed_time(event)
                if not math.isfinite(span_ms) or span_ms < before_ms:
                    self._close()
                    raise RuntimeError(
                        f"events out of order: {name} ended {span_ms:g} ms after its start, "
                        f"{before_ms:g} ms was passed already"
                    )
                spans.setdefault(name, []).append(span_ms * 1e-3 / calls)
                before_ms, last = span_ms, name
            calls_of_all += marks[-1][1] if marks else 0
        self._close()
        for name, values in spans.items():
            self.windows.setdefault(name, []).extend(values)
        found = {f"{name}_s": math.fsum(values) / len(values) for name, values in spans.items()}
        return found | ({f"{last}_wall_s": wall_s / calls_of_all} if calls_of_all else {})

    def take(self) -> dict[str, list[float]]:
        """The seconds of every window since the last take, by pass, in order."""
        taken, self.windows = self.windows, {}
        return taken

    def _record(self) -> Event:
        event = self._spare.pop() if self._spare else self._gpu.event()
        event.record()
        return event

    def _close(self) -> None:
        self._spare += [
            event for began, marks in self._open for event in (began, *(mark[2] for mark in marks))
        ]
        self._open = []
