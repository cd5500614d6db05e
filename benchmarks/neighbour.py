"""The competing load of the acceptance scripts: one core kept busy, as a neighbour on a shared
machine would.
"""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from swbench.worker.main import die_with_parent


@contextlib.contextmanager
def competing(wanted: bool) -> Iterator[int | None]:
    """The pid of a process that computes on one core for as long as the block lasts, or this
    process; None where none is `wanted`.
    """
    if not wanted:
        yield None
        return
    neighbour = multiprocessing.get_context("spawn").Process(
        target=_compete, args=(os.getpid(),), daemon=True
    )
    neighbour.start()
    try:
        time.sleep(1.0)
        yield neighbour.pid
    finally:
        neighbour.terminate()
        neighbour.join()


def _compete(parent: int) -> None:
    """Arithmetic and memory traffic, until the parent ends, however it does."""
    die_with_parent(parent)
    block = bytearray(8 << 20)
    while True:
        block = bytes(byte ^ 1 for byte in block[:4096]) + block[4096:]
