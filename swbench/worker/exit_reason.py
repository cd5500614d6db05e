"""The reason why a process ended unexpectedly, in words."""

import os
import signal
from pathlib import Path


def describe(code: int) -> str:
    """An exit status (negative for a signal) in words."""
    return f"killed by {_name(-code)}" if code < 0 else f"exit status {code}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def last_line(log: Path) -> str:
    """The last line of a log that is not empty, at most 300 characters; empty without a log."""
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
            lines = file.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")[:300]


def oom_kills() -> int:
    """The number of processes that the kernel's out-of-memory killer has ended, on this machine and
    in this control group; 0 where the kernel does not report it.
    """
    kills = 0
    for path in ("/proc/vmstat", "/sys/fs/cgroup/memory.events"):
        try:
            lines = Path(path).read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        kills += sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
    return kills
