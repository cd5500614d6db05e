"""A workload that counts what its workers do, in files that all of them share, and kills the worker
or its parent at a chosen count.
"""

import os
import signal
import threading
from pathlib import Path

from fakes import Tiny

STAGES = ("import", "build", "warm-up", "region", "finish", "message")
WARMUP_CALLS = 2

_write = os.write
_folder = Path(os.environ["TORTURE_COUNTS"])
_stage, _at, _victim = (os.environ.get("TORTURE") or "none 0 none").split()


def reached(stage: str) -> bool:
    """Count once more what happens at `stage`; whether this is where to kill."""
    handle = os.open(_folder / stage, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    _write(handle, b".")
    size = os.fstat(handle).st_size
    os.close(handle)
    return stage == _stage and size == int(_at)


def kill() -> None:
    if _victim == "worker":
        os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getppid(), signal.SIGKILL)
    threading.Event().wait()


def write(handle, data):
    """`os.write` of a worker: where it is killed, half of the message is out."""
    if reached("message"):
        _write(handle, data[: len(data) // 2])
        kill()
    return _write(handle, data)


class TortureWorkload(Tiny):
    def __init__(self, case):
        if reached("build"):
            kill()
        super().__init__(case)

    def call(self):
        if reached("warm-up" if self._calls < WARMUP_CALLS else "region"):
            kill()
        return super().call()

    def finish(self):
        if reached("finish"):
            kill()
        return super().finish()


if reached("import"):
    kill()
os.write = write
