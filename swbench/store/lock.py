"""The lock of a run folder, for a single writer. The kernel releases it when the process ends."""

import fcntl
import os
from pathlib import Path

from swbench.errors import StoreBusy
from swbench.store.files import cannot, open_regular


class Lock:
    """Holds `lock` in a run folder from construction to `release`. Raises StoreBusy, with the
    holder's pid, if another process has it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "lock"
        try:
            self._handle = open_regular(path, os.O_RDWR | os.O_CREAT)
        except OSError as problem:
            raise cannot("lock", path, problem) from problem
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._handle, 32, 0).decode("ascii", "replace").strip()
            os.close(self._handle)
            writer = f"process {holder}" if holder.isdigit() else "another process"
            raise StoreBusy(
                f"run {folder.name} is being written by {writer}; wait until it ends, or "
                "start a new one without --resume"
            ) from None
        try:
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)
        except OSError as problem:
            self.release()
            raise cannot("lock", path, problem) from problem

    def release(self) -> None:
        """Let others write; may be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def held(folder: Path) -> bool:
    """Whether a process is writing the run in `folder`; False where that cannot be determined."""
    try:
        handle = open_regular(folder / "lock")
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False
