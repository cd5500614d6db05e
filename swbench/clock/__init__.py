"""Timing of one sample: a clock, and a stopwatch that reads it at the end of each pass."""

from swbench.clock.events import EventStopwatch, Gpu
from swbench.clock.host import Clock, HostClock
from swbench.clock.stopwatch import HostStopwatch, Stopwatch, stopwatch_for

__all__ = [
    "Clock",
    "EventStopwatch",
    "Gpu",
    "HostClock",
    "HostStopwatch",
    "Stopwatch",
    "stopwatch_for",
]
