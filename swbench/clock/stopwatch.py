"""A stopwatch for one call of a network: started once, marked after each pass, and read after the
call.
"""

from typing import Protocol

from swbench.clock.host import Clock, HostClock


class Stopwatch(Protocol):
    """The methods that a workload times a call with. A device with a clock of its own has a
    stopwatch of its own.
    """

    def start(self) -> None:
        """The call begins."""

    def mark(self, name: str) -> None:
        """The pass `name` has ended."""

    def read(self) -> dict[str, float]:
        """Seconds from start to each mark, by metric (`forward_s`, `forward_cpu_s`); may wait for
        the device.
        """


class HostStopwatch:
    """Wall and CPU time at each mark: `<name>_s` and `<name>_cpu_s`."""

    def __init__(self, clock: Clock | None = None) -> None:
        clock = clock or HostClock()
        self._now, self._cpu = clock.now, clock.cpu
        self._names: list[str] = []
        self._wall_times: list[float] = []
        self._cpu_times: list[float] = []

    def start(self) -> None:
        self._names.clear()
        self._cpu_times[:] = [self._cpu()]
        # wall time last here and first in `mark`: the reading of CPU time stays outside
        self._wall_times[:] = [self._now()]

    def mark(self, name: str) -> None:
        self._wall_times.append(self._now())
        self._cpu_times.append(self._cpu())
        self._names.append(name)

    def read(self) -> dict[str, float]:
        seconds = {
            f"{name}_s": wall_time - self._wall_times[0]
            for name, wall_time in zip(self._names, self._wall_times[1:], strict=True)
        }
        return seconds | {
            f"{name}_cpu_s": cpu_time - self._cpu_times[0]
            for name, cpu_time in zip(self._names, self._cpu_times[1:], strict=True)
        }


def stopwatch_for(device: str) -> Stopwatch | None:
    """The stopwatch of a device (`cpu`, `cuda`, `cuda:1`); None where torch sees no such device."""
    if device == "cpu":
        return HostStopwatch()
    from swbench.clock.cuda import gpu_for
    from swbench.clock.events import EventStopwatch

    gpu = gpu_for(device)
    return None if gpu is None else EventStopwatch(gpu)
