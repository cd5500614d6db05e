"""Busy time of a device: the union of the intervals of its kernels and copies, as the profiler
(CUPTI) recorded them.
"""

from collections.abc import Iterable
from typing import Any

NO_WORK = ("gpu_user_annotation", "user_annotation", "cuda_sync", "overhead")
"""Activities on the device's timeline that are no work: annotations around others, and waits."""


def busy_s(events: Iterable[Any]) -> float | None:
    """Seconds covered by at least one activity on a device; None where there is none. `events` are
    torch's kineto events, in any order.
    """
    spans = [
        (event.start_ns(), event.start_ns() + event.duration_ns())
        for event in events
        if _is_work(event)
    ]
    return union(spans) * 1e-9 if spans else None


def union(spans: Iterable[tuple[int, int]]) -> int:
    """The length of the union of (start, end) intervals; streams overlap, and time counts once."""
    covered, end_of_cover = 0, None
    for start, end in sorted(spans):
        if end_of_cover is None or start > end_of_cover:
            covered, end_of_cover = covered + max(0, end - start), max(start, end)
        elif end > end_of_cover:
            covered, end_of_cover = covered + end - end_of_cover, end
    return covered


def _is_work(event: Any) -> bool:
    if str(event.device_type()).rpartition(".")[2] == "CPU":
        return False
    is_annotation = getattr(event, "is_user_annotation", None)  # not in every torch since 2.6
    if is_annotation is not None and is_annotation():
        return False
    kind = getattr(event, "activity_type", None)
    return kind is None or str(kind()) not in NO_WORK
