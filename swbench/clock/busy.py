"""How long a device was busy: the union of the intervals of its kernels and copies, as the profiler
(CUPTI) recorded them.
"""

from collections.abc import Iterable
from typing import Any

NO_WORK = ("gpu_user_annotation", "user_annotation", "cuda_sync", "overhead")
"""Activities on the device's timeline during which nothing need run: marks around others, and
waits.
"""


def busy_s(events: Iterable[Any]) -> float | None:
    """Seconds covered by at least one activity on a device; None where there is none. `events` are
    torch's kineto events, in any order.
    """
    spans = [
        (event.start_ns(), event.start_ns() + event.duration_ns())
        for event in events
        if _works(event)
    ]
    return union(spans) * 1e-9 if spans else None


def union(spans: Iterable[tuple[int, int]]) -> int:
    """The length of the union of (start, end) intervals; streams overlap, and time counts once."""
    covered, reached = 0, None
    for start, end in sorted(spans):
        if reached is None or start > reached:
            covered, reached = covered + max(0, end - start), max(start, end)
        elif end > reached:
            covered, reached = covered + end - reached, end
    return covered


def _works(event: Any) -> bool:
    if str(event.device_type()).rpartition(".")[2] == "CPU":
        return False
    marks = getattr(event, "is_user_annotation", None)  # not in every torch since 2.6
    if marks is not None and marks():
        return False
    kind = getattr(event, "activity_type", None)
    return kind is None or str(kind()) not in NO_WORK
