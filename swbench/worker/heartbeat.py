"""A page of memory that worker and parent share: what the worker is doing, said without waking
anybody.
"""

import mmap
import os
import struct
import tempfile
import time

STAGES = ("starting", "building", "warming up", "timing", "finishing")
_FORMAT = struct.Struct("=16siq")


class Page:
    """The worker writes which case it is running, at which stage, since when; the parent looks only
    when something went wrong.
    """

    def __init__(self, handle: int) -> None:
        """Map the file behind `handle`, which stays open."""
        self._memory = mmap.mmap(handle, _FORMAT.size)

    @staticmethod
    def file() -> int:
        """A new descriptor of a nameless file for a page, in its first state."""
        with tempfile.TemporaryFile() as file:
            file.write(_FORMAT.pack(b"", 0, time.monotonic_ns()))
            file.flush()
            return os.dup(file.fileno())

    def begin(self, case: str | None, stage: str) -> None:
        """From now on the case with this key runs, or none."""
        key = (case or "").encode()
        _FORMAT.pack_into(self._memory, 0, key, STAGES.index(stage), time.monotonic_ns())

    def read(self) -> tuple[str | None, str, float]:
        """Key of the running case, the stage, and for how many seconds."""
        case, stage, since = _FORMAT.unpack_from(self._memory, 0)
        return (
            case.rstrip(b"\0").decode("ascii", "replace") or None,
            STAGES[stage % len(STAGES)],
            (time.monotonic_ns() - since) * 1e-9,
        )

    def close(self) -> None:
        """Unmap the page."""
        self._memory.close()
