"""Ctrl-C, SIGTERM and SIGHUP: each ends a command in order, once, however often it comes."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE_S = 5.0
"""For so long after the first signal further ones change nothing: the ending that it set off takes
milliseconds. Heuristic.
"""

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Signalled(KeyboardInterrupt):
    """Raised in the main thread where a signal asks the process to end. It passes wherever Ctrl-C
    passes.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def orderly(now: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Within it the signals of `ENDING` raise `Signalled`, and those that follow within `GRACE_S`
    do not cut the ending short.

    A signal that is ignored stays ignored (SIGHUP under nohup). Does nothing outside the main
    thread, where signals cannot be handled.
    """
    first: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if first and now() - first[0] < GRACE_S:
            return
        first[:] = [now()]
        raise Signalled(number)

    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    before[number] = signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ignore() -> None:
    """From here on the process only ends: a signal would add a traceback and nothing else."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
