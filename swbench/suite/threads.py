"""How many intra-op threads to use where nobody said: the physical cores that this process may run on."""

import os
from pathlib import Path


def physical_cores() -> int:
    """Distinct physical cores in this process's affinity mask, no more than its CPU quota allows; at least 1.

    Two hyper-threads of a core share its arithmetic units, so they count once.
    """
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_siblings(cpu) for cpu in allowed}
    return max(1, min(len(cores), _quota(len(cores))))


def _siblings(cpu: int) -> str:
    try:
        return Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list").read_text().strip()
    except OSError:
        return str(cpu)


def _quota(otherwise: int) -> int:
    """Whole CPUs of the cgroup's quota (cgroup v2, cpu.max), rounded down; `otherwise` where there is none."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return max(1, int(quota) // int(period)) if quota != "max" else otherwise
    except (OSError, ValueError, ZeroDivisionError):
        return otherwise
