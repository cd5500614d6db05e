"""Readings of other activity on the machine during a round: cumulative kernel counters, read before
and after it.
"""

import ctypes
import os
import resource
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from swbench.stats.disturbance_rule import exceeds_rule, marked_rounds, quietness, severity

__all__ = ["Reader", "difference", "exceeds_rule", "marked_rounds", "quietness", "read", "severity"]

GAUGES = ("frequency_hz",)
"""Readings that are a state, not a count. A difference holds the lower value and the share by which
it fell.
"""

ACTIVE = "active_s/"
"""Prefix of a thread's readings: the seconds for which it ran or was ready to run."""

MOST_THREADS = 16
"""Number of threads that are read: the main thread and those that started first. Leaving one out
only makes the time look longer in which no thread was active. Heuristic: 16 take 20 µs.
"""

_PRESSURES = ("cpu", "memory", "io")
# columns of the first line of /proc/stat, proc(5): user nice system idle iowait irq softirq steal
_STEAL, _IDLE = 7, (3, 4)


class Reader:
    """Keeps the kernel's files open, so that one reading costs a few system calls. A file that is
    missing leaves its keys out.

    `root` stands for `/` in tests.
    """

    def __init__(self, root: str | Path = "/") -> None:
        root = Path(root)
        self.process = os.getpid()
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        self._stat = _open(root / "proc/stat")
        self._schedule = _open(root / "proc/thread-self/schedstat")
        self._tasks = root / "proc/self/task"
        self._threads: dict[str, int] = {}
        self._pressure = {
            kind: fd
            for kind in _PRESSURES
            if (fd := _open(root / "proc/pressure" / kind)) is not None
        }
        self._cores = root / "sys/devices/system/cpu"
        self._frequency: dict[int, int | None] = {}

    def read(self) -> dict[str, float]:
        """Seconds, counts and Hz since some fixed start, by name; only differences of counters mean
        anything.
        """
        usage = resource.getrusage(resource.RUSAGE_SELF)
        reading = {
            "wall_s": time.perf_counter(),
            "own_cpu_s": usage.ru_utime + usage.ru_stime,
            "involuntary_switches": float(usage.ru_nivcsw),
            "major_faults": float(usage.ru_majflt),
        }
        if line := _read(self._stat):
            ticks = [int(column) for column in line.split(b"\n", 1)[0].split()[1:9]]
            if len(ticks) > _STEAL:
                reading["steal_s"] = ticks[_STEAL] * self._tick_s
                reading["busy_s"] = (
                    sum(ticks) - ticks[_STEAL] - sum(ticks[column] for column in _IDLE)
                ) * self._tick_s
        if (line := _read(self._schedule)) and len(fields := line.split()) >= 2:
            # ready to run, but not running: Documentation/scheduler/sched-stats
            reading["queued_s"] = int(fields[1]) * 1e-9
        for kind, fd in self._pressure.items():
            if (line := _read(fd)) and b"total=" in line:
                reading[f"pressure_{kind}_s"] = (
                    int(line.split(b"total=", 1)[1].split(None, 1)[0]) * 1e-6
                )
        if line := _read(self._frequency_file()):
            reading["frequency_hz"] = int(line) * 1e3
        if _BOOT_TIME is not None:
            # the monotonic clock stands still while the machine is suspended
            reading["suspended_s"] = time.clock_gettime(_BOOT_TIME) - time.monotonic()
        return reading | self._active()

    def _active(self) -> dict[str, float]:
        """For each thread the seconds in which it ran or was ready to run."""
        self._open_new_threads()
        own_id, reading = str(threading.get_native_id()), {}
        for thread, fd in list(self._threads.items()):
            fields = _read(fd).split()
            if len(fields) < 2:  # it has ended
                os.close(self._threads.pop(thread))
                continue
            # the kernel's own count of a thread that is running lags by up to a tick
            cpu_s = time.thread_time() if thread == own_id else int(fields[0]) * 1e-9
            reading[f"{ACTIVE}{thread}"] = cpu_s + int(fields[1]) * 1e-9
        return reading

    def _open_new_threads(self) -> None:
        """Open the files of threads that are new."""
        if len(self._threads) >= MOST_THREADS:
            return
        try:
            names = os.listdir(self._tasks)
        except OSError:
            return
        for name in names:
            if (
                name not in self._threads
                and len(self._threads) < MOST_THREADS
                and (fd := _open(self._tasks / name / "schedstat")) is not None
            ):
                self._threads[name] = fd

    def _frequency_file(self) -> int | None:
        """The frequency of the core this thread is on; asking an idle core can take the kernel 20
        ms.
        """
        core = _current_core()
        if core not in self._frequency:
            self._frequency[core] = _open(self._cores / f"cpu{core}/cpufreq/scaling_cur_freq")
        return self._frequency[core]

    def close(self) -> None:
        """Close every file."""
        opened = (
            self._stat,
            self._schedule,
            *self._pressure.values(),
            *self._frequency.values(),
            *self._threads.values(),
        )
        for fd in opened:
            if fd is not None:
                os.close(fd)
        self._stat = self._schedule = None
        self._pressure, self._frequency, self._threads = {}, {}, {}


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """The change between two readings; keys that only one of them has are left out.

    The threads' readings become one, `idle_s`: the wall time less the active time of the busiest
    thread. It is an upper bound of the time in which no thread was active, because the others may
    have been active meanwhile.
    """
    both = [key for key in after if key in before]
    change = {
        key: after[key] - before[key]
        for key in both
        if key not in GAUGES and not key.startswith(ACTIVE)
    }
    active = [after[key] - before[key] for key in both if key.startswith(ACTIVE)]
    if active:
        change["idle_s"] = max(0.0, change["wall_s"] - max(active))
    if "suspended_s" in change:
        change["suspended_s"] = max(0.0, change["suspended_s"])  # two clocks, read in turn
    for key in both:
        if key in GAUGES:
            change[key] = min(before[key], after[key])
            change[f"{key.removesuffix('_hz')}_drop"] = 1.0 - change[key] / max(
                before[key], after[key]
            )
    return change


_BOOT_TIME = getattr(time, "CLOCK_BOOTTIME", None)

_reader: Reader | None = None


def read() -> dict[str, float]:
    """A reading by this process's own reader, which stays open."""
    global _reader
    if _reader is None or _reader.process != os.getpid():
        _reader = Reader()
    return _reader.read()


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _read(fd: int | None) -> bytes:
    if fd is None:
        return b""
    try:
        return os.pread(fd, 512, 0)
    except OSError:
        return b""


try:
    _sched_getcpu = ctypes.CDLL(None).sched_getcpu
except (OSError, AttributeError):
    _sched_getcpu = None


def _current_core() -> int:
    return _sched_getcpu() if _sched_getcpu is not None else 0
