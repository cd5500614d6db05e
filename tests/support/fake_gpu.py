"""A GPU for tests: its work takes the time of the script, and every call is recorded."""

from collections.abc import Callable, Iterable, Iterator

from fake_clock import FakeClock


class FakeEvent:
    """Reads the device's clock when recorded."""

    def __init__(self, gpu: "FakeGpu") -> None:
        self._gpu, self.at_s = gpu, 0.0

    def record(self) -> None:
        self.at_s = self._gpu.reach()

    def synchronize(self) -> None:
        self._gpu.waits.append("event")

    def elapsed_time(self, end: "FakeEvent") -> float:
        return (end.at_s - self.at_s) * 1e3


class FakeGraph:
    """Does at each replay what was captured."""

    def __init__(self, step: Callable[[], object]) -> None:
        self._step, self.replays = step, 0

    def replay(self) -> None:
        self.replays += 1


class FakeGpu:
    """Between two events `tick_s` pass on device and host, or the next of `script`. Tensors stay on
    the CPU.

    `fails` maps the name of a method (`capture`, `peak`, `busy_s`) to what it raises.
    `device_busy_s` is the answer to `busy_s`. A spin takes its cycles at `hz` before the next
    event.
    """

    device = "cpu"
    uuid = "11111111-2222-3333-4444-555555555555"
    cache_bytes = 4096

    def __init__(
        self,
        tick_s: float = 0.01,
        script: Iterable[float] = (),
        device_busy_s: float | None = None,
        fails: dict | None = None,
        hz: float = 1.98e9,
    ) -> None:
        self.clock = FakeClock()
        self._now_s, self._tick_s, self._script = 0.0, tick_s, iter(script)
        self.device_busy_s, self._fails = device_busy_s, fails or {}
        self.waits: list[str] = []
        self.graphs: list[FakeGraph] = []
        self.capture_stream_runs = 0
        self._hz, self._spun_s = hz, 0.0

    def reach(self) -> float:
        """The device's clock at the next event."""
        step_s = next(self._script, self._tick_s) + self._spun_s
        self._spun_s = 0.0
        self._now_s += step_s
        self.clock.advance(max(0.0, step_s))
        return self._now_s

    def event(self) -> FakeEvent:
        return FakeEvent(self)

    def synchronise(self) -> None:
        self.waits.append("device")

    def run_on_capture_stream(self, step: Callable[[], object]) -> None:
        self.capture_stream_runs += 1
        step()

    def capture(self, step: Callable[[], object]) -> FakeGraph:
        self._maybe_fail("capture")
        step()
        self.graphs.append(FakeGraph(step))
        return self.graphs[-1]

    def peak(self, step: Callable[[], object]) -> tuple[int, int]:
        self._maybe_fail("peak")
        step()
        return 1 << 20, 2 << 20

    def busy_s(self, step: Callable[[], object]) -> float | None:
        self._maybe_fail("busy_s")
        step()
        return self.device_busy_s

    def spin(self, cycles: int) -> None:
        self._spun_s += cycles / self._hz

    def memory(self) -> tuple[int, int]:
        return 3 << 30, 4 << 30

    def _maybe_fail(self, method: str) -> None:
        if method in self._fails:
            raise self._fails[method]


def stamps(*times_s: float) -> Iterator[float]:
    """A script that puts successive events at these moments, in whatever order they are."""
    before = 0.0
    for time_s in times_s:
        yield time_s - before
        before = time_s
