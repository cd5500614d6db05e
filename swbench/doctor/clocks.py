"""Checks of the clock that times samples."""

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

from swbench.doctor.check import BAD, OK, WARN, Check

FAST_SOURCES = ("tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "timebase")
"""Clock sources that are read without a system call; hpet and acpi_pm cost a microsecond or more.
"""

SLOW_READ_NS, COARSE_NS = 500, 1000
"""Largest good cost of a read, and smallest step of the clock: 0.02 % of a 5 ms sample."""


def clock_grain(
    now_ns: Callable[[], int] = time.perf_counter_ns, reads: int = 2000
) -> tuple[float, int]:
    """Median nanoseconds between consecutive reads, and the smallest step that is not 0."""
    stamps = [now_ns() for _ in range(reads)]
    steps = [after - before for before, after in itertools.pairwise(stamps)]
    nonzero = [step for step in steps if step > 0]
    return statistics.median(steps), min(nonzero, default=0)


def source(environment: Mapping[str, Any]) -> Check:
    """The kernel's clock source."""
    name = environment["system"]["clocksource"]
    if name is None:
        return Check("clock source", OK, "not reported by this system")
    if name in FAST_SOURCES:
        return Check("clock source", OK, name)
    return Check(
        "clock source",
        WARN,
        f"{name}: each read enters the kernel",
        ("echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource"),
    )


def counter(grain: tuple[float, int]) -> Check:
    """Cost and grain of perf_counter_ns, from `clock_grain`."""
    read_ns, step_ns = grain
    words = f"perf_counter_ns: {read_ns:.0f} ns a read, smallest step {step_ns} ns"
    if step_ns == 0:
        return Check(
            "timer",
            BAD,
            "perf_counter_ns did not move",
            "use another machine: this clock cannot time anything",
        )
    if read_ns > SLOW_READ_NS or step_ns > COARSE_NS:
        return Check("timer", WARN, words, "see the clock source; keep samples above 5 ms")
    return Check("timer", OK, words)
