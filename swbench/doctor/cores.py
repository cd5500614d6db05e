"""Checks of the cores and the memory: threads, quota, load, pressure, governor, turbo, NUMA."""

from collections.abc import Mapping
from typing import Any

from swbench import program
from swbench.doctor.check import BAD, OK, WARN, Check

GIB = 1 << 30

BUSY_SHARE = 0.5
"""Load, as a share of the cores allowed, above which other programs disturb a run. Heuristic: one
busy core of two.
"""
PRESSURE_PERCENT = {"cpu": 10.0, "memory": 1.0, "io": 5.0}
"""Percent of the last 10 s in which a task waited. CPU: heuristic; with one thread, ratios were
stable at 50 %, with all cores they were not.
"""


def threads(environment: Mapping[str, Any], requested: int | None) -> Check:
    """Threads against the physical cores and the quota this process has."""
    cores = environment["cores"]
    physical, quota, logical = cores["physical_allowed"], cores["quota"], len(cores["allowed"])
    most = max(1, min(physical, int(quota or physical)))
    count = requested or most
    words = (
        f"{count} threads on {physical} physical cores ({logical} logical allowed of "
        f"{cores['logical']})"
    )
    if count > most:
        return Check(
            "threads",
            BAD,
            words,
            (
                f"use --threads {most} or fewer: more threads than cores collapse up "
                "to 12× when anything else runs"
            ),
        )
    if count == physical and physical > 1:
        bracket = f" (or at most {most - 1})" if most > 2 else ""
        return Check(
            "threads",
            WARN,
            words,
            (f"on a machine that others use, --threads 1{bracket} holds ratios within 1 %"),
        )
    return Check("threads", OK, words)


def quota(environment: Mapping[str, Any]) -> Check:
    """The cgroup limit on CPU time."""
    limit, physical = environment["cores"]["quota"], environment["cores"]["physical_allowed"]
    if limit is None:
        return Check("cgroup CPU limit", OK, "none")
    if limit < 1:
        return Check(
            "cgroup CPU limit",
            BAD,
            f"{limit:.2g} cores: even one thread is stopped in every period",
            "raise the container's CPU limit to 1 core at least",
        )
    if limit < physical:
        return Check(
            "cgroup CPU limit",
            WARN,
            f"{limit:.3g} cores of {physical}",
            (f"keep --threads at {int(limit)} or below, or bind a cpuset in place of a quota"),
        )
    return Check("cgroup CPU limit", OK, f"{limit:.3g} cores")


def load(environment: Mapping[str, Any]) -> Check:
    """The load average of the last minute."""
    value, cores = environment["now"]["load"], len(environment["cores"]["allowed"])
    if value is None:
        return Check("load", WARN, "the kernel does not report it", "")
    status = OK if value <= BUSY_SHARE * cores else WARN if value <= 1.5 * cores else BAD
    fix = (
        ""
        if status == OK
        else "find it with `top`; wait, or measure with --threads 1 and --target-ci"
    )
    return Check("load", status, f"{value:.2f} on {cores} cores over the last minute", fix)


def pressure(environment: Mapping[str, Any]) -> Check:
    """Pressure stall information: how long tasks waited for CPU, memory and I/O."""
    shares = {
        kind: share
        for kind, share in environment["now"]["pressure_percent"].items()
        if share is not None
    }
    if not shares:
        return Check(
            "pressure",
            OK,
            ("not reported by this kernel; rounds are judged by steal and switches alone"),
            "boot with psi=1 to have it",
        )
    over = [kind for kind, share in shares.items() if share > PRESSURE_PERCENT[kind]]
    words = ", ".join(f"{kind} {share:.1f} %" for kind, share in shares.items()) + " over 10 s"
    if not over:
        return Check("pressure", OK, words)
    return Check(
        "pressure",
        WARN,
        words,
        (f"something waits for {' and '.join(over)}: stop it, or use --threads 1 and --target-ci"),
    )


def governor(environment: Mapping[str, Any]) -> Check:
    """The frequency governor."""
    value, driver = environment["processor"]["governor"], environment["processor"]["driver"]
    if value is None:
        where = (
            "not visible from a virtual machine"
            if environment["processor"]["virtual"]
            else "no frequency scaling"
        )
        return Check("governor", OK, where)
    if value == "performance":
        return Check("governor", OK, f"performance ({driver})")
    return Check(
        "governor", WARN, f"{value} ({driver})", "sudo cpupower frequency-set -g performance"
    )


def turbo(environment: Mapping[str, Any]) -> Check:
    """Turbo: it changes absolute times; pairing cancels slow changes of the frequency."""
    value, driver = environment["processor"]["turbo"], environment["processor"]["driver"] or ""
    if value is None:
        return Check("turbo", OK, "not visible here")
    if not value:
        return Check("turbo", OK, "off")
    switch = (
        "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"
        if "intel" in driver
        else "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"
    )
    return Check(
        "turbo",
        WARN,
        "on: absolute times depend on temperature and neighbours, ratios hardly",
        switch,
    )


def numa(environment: Mapping[str, Any]) -> Check:
    """NUMA nodes: a process that migrates between them changes its speed."""
    nodes = environment["cores"]["numa_nodes"]
    if nodes <= 1:
        return Check("memory nodes", OK, "1")
    return Check(
        "memory nodes",
        WARN,
        f"{nodes}",
        f"numactl --cpunodebind=0 --membind=0 {program.command()} …",
    )


def memory(environment: Mapping[str, Any]) -> Check:
    """Free memory, within the cgroup's limit."""
    free, limits = environment["now"]["available_bytes"], environment["memory"]
    if free is None:
        return Check("memory", WARN, "the kernel does not report it")
    limit = limits["limit_bytes"]
    words = f"{free / GIB:.1f} GiB available" + (
        f", cgroup limit {limit / GIB:.1f} GiB" if limit else ""
    )
    if min(free, limit or free) < 2 * GIB:
        return Check(
            "memory",
            BAD,
            words,
            (
                "ResNet50 with gradients needs about 2 GiB at batch 1: free memory or "
                "raise the limit"
            ),
        )
    return Check("memory", OK, words)
