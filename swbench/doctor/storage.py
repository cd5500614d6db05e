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
"""A cell is sealed with an fsync when a replicate ends; slower than this, the disk is busy with
somebody else's writes. Heuristic.
"""


def nearest(folder: Path) -> Path:
    """`folder`, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def space(folder: Path) -> Check:
    """Free space where results go."""
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
    taken = []
    with tempfile.TemporaryFile(dir=nearest(folder)) as file:
        for _ in range(writes):
            start = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def sync(folder: Path) -> Check:
    """Speed of fsync where results go."""
    try:
        taken = sync_time(folder)
    except OSError as error:
        return Check(
            "disk sync",
            BAD,
            f"cannot write in {nearest(folder)}: {error.strerror}",
            "give --results a folder that can be written",
        )
    if taken > SLOW_FSYNC_S:
        return Check(
            "disk sync",
            WARN,
            f"fsync takes {1000 * taken:.0f} ms",
            ("put --results on a local disk: a slow one disturbs the rounds that follow"),
        )
    return Check("disk sync", OK, f"fsync takes {1000 * taken:.1f} ms")
