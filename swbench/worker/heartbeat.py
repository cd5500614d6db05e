"""Memory shared by worker and parent: the worker writes what it does and wakes no process."""

import mmap
import os
import struct
import tempfile
import time

STAGES = ("starting", "building", "warming up", "timing", "finishing")
_FORMAT = struct.Struct("=16siq")


class Heartbeat:
    """The running case, its stage and since when. The worker writes them; the parent reads them
    when a time limit is near or the worker has ended.
    """

    def __init__(self, handle: int) -> None:
        """Map the file behind `handle`, which stays open."""
        self._memory = mmap.mmap(handle, _FORMAT.size)

    @staticmethod
    def file() -> int:
        """A new descriptor of a nameless file for a heartbeat, at stage `starting`."""
        with tempfile.TemporaryFile() as file:
            file.write(_FORMAT.pack(b"", 0, time.monotonic_ns()))
            file.flush()
            return os.dup(file.fileno())

    def begin(self, case: str | None, stage: str) -> None:
        """Record that the case with this key runs from now on, or none."""
        key = (case or "").encode()
        _FORMAT.pack_into(self._memory, 0, key, STAGES.index(stage), time.monotonic_ns())

    def read(self) -> tuple[str | None, str, float]:
        """Key of the running case (or None), its stage, and the seconds since `begin`."""
        case, stage, since = _FORMAT.unpack_from(self._memory, 0)
        return (
            case.rstrip(b"\0").decode("ascii", "replace") or None,
            STAGES[stage % len(STAGES)],
            (time.monotonic_ns() - since) * 1e-9,
        )

    def close(self) -> None:
        """Unmap the memory."""
        self._memory.close()
