"""Checks of the disk that results are written to."""

import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from swbench.doctor.check import BAD, OK, WARN, Check

LEAST_BYTES, ENOUGH_BYTES = 100 << 20, 1 << 30
SLOW_FSYNC_S = 0.1
"""Seconds of an fsync above which the disk counts as busy with other writes: each replicate ends
with one. Heuristic.
"""


def nearest(folder: Path) -> Path:
    """`folder`, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def space(folder: Path) -> Check:
    """Free space for results in `folder`."""
    free = shutil.disk_usage(nearest(folder)).free
    words = f"{free / (1 << 30):.1f} GiB free for {folder}"
    if free < LEAST_BYTES:
        return Check("disk space", BAD, words, "free some, or give --results another place")
    return Check(
        "disk space",
        OK if free >= ENOUGH_BYTES else WARN,
        words,
        "" if free >= ENOUGH_BYTES else "enough for one run, not for many",
    )


def sync_time(folder: Path, writes: int = 5) -> float:
    """Median seconds of appending 4 KiB and fsync in `folder`. Raises OSError where nothing can be
    written.
    """
    times_s = []
    with tempfile.TemporaryFile(dir=nearest(folder)) as file:
        for _ in range(writes):
            started = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            times_s.append(time.perf_counter() - started)
    return statistics.median(times_s)


def sync(folder: Path) -> Check:
    """Time of an fsync in `folder`."""
    try:
        fsync_s = sync_time(folder)
    except OSError as error:
        return Check(
            "disk sync",
            BAD,
            f"cannot write in {nearest(folder)}: {error.strerror}",
            "give --results a folder that can be written",
        )
    if fsync_s > SLOW_FSYNC_S:
        return Check(
            "disk sync",
            WARN,
            f"fsync takes {1000 * fsync_s:.0f} ms",
            ("put --results on a local disk: a slow one disturbs the rounds that follow"),
        )
    return Check("disk sync", OK, f"fsync takes {1000 * fsync_s:.1f} ms")
