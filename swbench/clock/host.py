"""The host's clocks."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings in seconds since some fixed moment, of which only differences mean anything."""

    def now(self) -> float:
        """Wall time that never goes back."""

    def cpu(self) -> float:
        """CPU time of this process, all its threads together."""


class HostClock:
    """`perf_counter_ns` and the process's CPU time."""

    def now(self) -> float:
        return time.perf_counter_ns() * 1e-9

    def cpu(self) -> float:
        return time.process_time_ns() * 1e-9
