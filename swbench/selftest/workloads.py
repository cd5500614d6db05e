"""Workloads whose true time is known: a spin of a given length, and a network with a given
delay.
"""

import time
from collections.abc import Callable
from dataclasses import replace

from swbench.case import Case
from swbench.clock import HostStopwatch, Stopwatch
from swbench.result import Measurement

LENGTH, DELAY = "length", "delay"

TRUTH = "true_s"
"""The metric beside `forward_s` that holds the true length of a spin."""


def known_value(case: Case, name: str) -> float:
    """The value of `name=value` in the case's `solver` field, where self-tests store the true
    value. Raises ValueError where the field holds another name.
    """
    key, _, value = (case.solver or "").partition("=")
    if key != name:
        raise ValueError(f"a self-test case says {name}=… in its solver field, not {case.solver!r}")
    return float(value)


def monotonic_ns() -> int:
    """A clock other than the stopwatch's, in nanoseconds."""
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC)


def spin_until(end_ns: int, now_ns: Callable[[], int]) -> int:
    """Hold the core until `now_ns` returns at least `end_ns`; returns that reading."""
    while (now := now_ns()) < end_ns:
        pass
    return now


class SpinWorkload:
    """Holds the core for `length` seconds by a clock of its own, and reports how long that was,
    because a core that is taken away makes it longer.

    A length of 0 is an empty call.
    """

    def __init__(self, case: Case, stopwatch: Stopwatch | None = None) -> None:
        self._length_ns = round(known_value(case, LENGTH) * 1e9)
        self._watch = stopwatch or HostStopwatch()
        self.chosen: dict[str, str] = {}

    def call(self) -> dict[str, float]:
        watch, true_ns = self._watch, 0
        watch.start()
        if self._length_ns:
            start_ns = monotonic_ns()
            true_ns = spin_until(start_ns + self._length_ns, monotonic_ns) - start_ns
        watch.mark("forward")
        return {**watch.read(), TRUTH: true_ns * 1e-9}

    def finish(self) -> list[Measurement]:
        return []


class DelayedWorkload:
    """A network whose every pass is followed by a spin for a given share of the CPU time that the
    pass took on this thread.

    The pass itself calibrates the delay, so it is exact at any speed of the machine. It is CPU
    time, because a spin by the wall clock overshoots when the core is taken away: on a busy machine
    it lengthened samples by 11 % in place of 5 %. Needs one thread. `case.solver` is, for example,
    `delay=0.05`.
    """

    def __init__(self, case: Case, stopwatch: Stopwatch | None = None) -> None:
        # loads torch, and the parent reads this module for its names
        from swbench.probes.network import NetworkWorkload

        watch = DelayingStopwatch(stopwatch or HostStopwatch(), known_value(case, DELAY))
        self._network = NetworkWorkload(replace(case, solver=None), watch)
        self.chosen: dict[str, str] = {}

    def call(self) -> dict[str, float]:
        return self._network.call()

    def finish(self) -> list[Measurement]:
        return []


class DelayingStopwatch:
    """A stopwatch that lets each pass last longer by `share` before it marks it."""

    def __init__(
        self, watch: Stopwatch, share: float, now_ns: Callable[[], int] = time.thread_time_ns
    ) -> None:
        self._watch, self._share, self._now_ns = watch, share, now_ns
        self._start_ns = 0
        self.read = watch.read

    def start(self) -> None:
        self._watch.start()
        self._start_ns = self._now_ns()

    def mark(self, name: str) -> None:
        if self._share:
            now_ns = self._now_ns()
            spin_until(now_ns + round(self._share * (now_ns - self._start_ns)), self._now_ns)
        self._watch.mark(name)
        self._start_ns = self._now_ns()
