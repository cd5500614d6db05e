"""Hardware of this machine as the kernel reports it in /proc and /sys: cores, caches, clocks,
memory and limits. It imports nothing large.
"""

import hashlib
import os
import platform
import re
import resource
import socket
from pathlib import Path
from typing import Any

ROOT = Path("/")


def text(path: str, root: Path = ROOT) -> str | None:
    """The stripped content of a kernel file, None where it is missing or not to be read."""
    try:
        return (root / path).read_text(errors="replace").strip()
    except OSError:
        return None


def chosen(value: str | None) -> str | None:
    """The bracketed word of a kernel choice such as `always [madvise] never`."""
    match = re.search(r"\[(\S+)\]", value or "")
    return match.group(1) if match else value


def cores(root: Path = ROOT) -> dict[str, Any]:
    """Logical cores of the machine, those this process may use, the distinct physical cores among
    them, and the cgroup quota in cores.
    """
    allowed = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )
    siblings = {
        core: text(f"sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list", root)
        or str(core)
        for core in allowed
    }
    return {
        "logical": os.cpu_count() or 1,
        "allowed": allowed,
        "physical_allowed": len(set(siblings.values())),
        "quota": quota(root),
        "smt": text("sys/devices/system/cpu/smt/control", root),
        "numa_nodes": len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or 1,
    }


def usable_cores(root: Path = ROOT) -> int:
    """Physical cores this process may use: the default number of threads. The cgroup quota counts,
    rounded down, at least 1.

    Two hyper-threads of a core share its arithmetic units, so they count once.
    """
    cores_found = cores(root)
    return max(
        1,
        min(
            cores_found["physical_allowed"],
            int(cores_found["quota"] or cores_found["physical_allowed"]),
        ),
    )


def _cgroups(root: Path) -> dict[str, str]:
    """The cgroup of this process for each controller; the key is empty for the unified
    hierarchy.
    """
    lines = [line.split(":", 2) for line in (text("proc/self/cgroup", root) or "").splitlines()]
    return {
        name: line[2].strip("/") for line in lines if len(line) == 3 for name in line[1].split(",")
    }


def _limits(file_v2: str, controller: str, file_v1: str, root: Path) -> list[str]:
    """The content of a limit file at every level from this process's cgroup up to the top, version
    2 first, else version 1.
    """
    groups, contents = _cgroups(root), []
    for base, group, file in (
        ("", groups.get("", ""), file_v2),
        (controller, groups.get(controller, ""), file_v1),
    ):
        parts = group.split("/") if group else []
        for depth in range(len(parts), -1, -1):
            value = text(
                "/".join(["sys/fs/cgroup", *([base] if base else []), *parts[:depth], file]), root
            )
            if value is not None:
                contents.append(value)
    return contents


def quota(root: Path = ROOT) -> float | None:
    """CPU time in cores that the cgroups allow, the tightest of all levels; None where nothing
    limits it.
    """
    quotas = []
    for value in _limits("cpu.max", "cpu", "cpu.cfs_quota_us", root):
        parts = value.split()
        if parts[0] not in ("max", "-1"):
            period = (
                parts[1]
                if len(parts) > 1
                else text("sys/fs/cgroup/cpu/cpu.cfs_period_us", root) or "100000"
            )
            quotas.append(int(parts[0]) / int(period))
    return min(quotas, default=None)


def memory(root: Path = ROOT) -> dict[str, Any]:
    """Bytes of memory in the machine and the tightest cgroup limit on them, transparent huge pages,
    swap.
    """
    info = dict(re.findall(r"^(\w+):\s+(\d+)", text("proc/meminfo", root) or "", re.MULTILINE))
    total = int(info.get("MemTotal", 0)) * 1024
    limits = [
        int(v)
        for v in _limits("memory.max", "memory", "memory.limit_in_bytes", root)
        if v.isdigit()
    ]
    return {
        "total_bytes": total,
        "limit_bytes": min((limit for limit in limits if not total or limit < total), default=None),
        "swap_bytes": int(info.get("SwapTotal", 0)) * 1024,
        "huge_pages": chosen(text("sys/kernel/mm/transparent_hugepage/enabled", root)),
        "page_bytes": resource.getpagesize(),
    }


def available_bytes(root: Path = ROOT) -> int | None:
    """Bytes of memory that are available now; None where the kernel does not say."""
    match = re.search(r"^MemAvailable:\s+(\d+)", text("proc/meminfo", root) or "", re.MULTILINE)
    return int(match.group(1)) * 1024 if match else None


def processor(root: Path = ROOT) -> dict[str, Any]:
    """Model, vector extensions, caches, frequency scaling and turbo of the first core, and whether
    a hypervisor is in between.
    """
    info, flags = _first_core(root), features(root)
    caches = {}
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index[0-9]*")):
        where = str(index.relative_to(root))
        kind = {"Data": "d", "Instruction": "i"}.get(text(f"{where}/type", root) or "", "")
        caches[f"L{text(f'{where}/level', root)}{kind}"] = text(f"{where}/size", root)
    scaling = "sys/devices/system/cpu/cpu0/cpufreq"
    return {
        "model": info.get("model name") or platform.processor() or platform.machine(),
        "family": [info.get("cpu family"), info.get("model"), info.get("stepping")],
        "architecture": platform.machine(),
        "vectors": sorted(
            flags
            & {"avx", "avx2", "avx512f", "avx512_bf16", "amx_tile", "fma", "asimd", "sve", "sve2"}
        ),
        "caches": caches,
        "virtual": "hypervisor" in flags,
        "governor": text(f"{scaling}/scaling_governor", root),
        "driver": text(f"{scaling}/scaling_driver", root),
        "max_hz": int(v) * 1000 if (v := text(f"{scaling}/cpuinfo_max_freq", root)) else None,
        "turbo": turbo(root),
    }


def features(root: Path = ROOT) -> frozenset[str]:
    """Instruction-set extensions of the processor, by the kernel's names; empty where the kernel
    does not say.
    """
    info = _first_core(root)
    return frozenset(info.get("flags", info.get("Features", "")).split())


def _first_core(root: Path) -> dict[str, str]:
    lines = (text("proc/cpuinfo", root) or "").split("\n\n")[0]
    return dict(re.findall(r"^([\w ]+?)\s*: (.*)$", lines, re.MULTILINE))


def turbo(root: Path = ROOT) -> bool | None:
    """Whether the clock may rise above its nominal rate; None where the kernel does not say."""
    if (value := text("sys/devices/system/cpu/intel_pstate/no_turbo", root)) is not None:
        return value == "0"
    if (value := text("sys/devices/system/cpu/cpufreq/boost", root)) is not None:
        return value == "1"
    return None


def system(root: Path = ROOT) -> dict[str, Any]:
    """Kernel, distribution, clock source, and a hash that distinguishes machines without naming
    them.
    """
    name = re.search(r'^PRETTY_NAME="?([^"\n]*)', text("etc/os-release", root) or "", re.MULTILINE)
    identity = (text("etc/machine-id", root) or "") + socket.gethostname()
    return {
        "kernel": f"{platform.system()} {platform.release()}",
        "distribution": name.group(1) if name else None,
        "clocksource": text(
            "sys/devices/system/clocksource/clocksource0/current_clocksource", root
        ),
        "host": hashlib.sha256(identity.encode()).hexdigest()[:12],
    }


def now(root: Path = ROOT) -> dict[str, Any]:
    """The state at this moment: load, pressure over the last 10 s in per cent, available memory."""
    pressure = {}
    for kind in ("cpu", "memory", "io"):
        match = re.search(r"some avg10=([\d.]+)", text(f"proc/pressure/{kind}", root) or "")
        pressure[kind] = float(match.group(1)) if match else None
    load = (text("proc/loadavg", root) or "").split()
    return {
        "load": float(load[0]) if load else None,
        "pressure_percent": pressure,
        "available_bytes": available_bytes(root),
    }
