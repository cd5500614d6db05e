"""Signals: Ctrl-C, SIGTERM and SIGHUP each shut a command down in order, even if repeated."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

GRACE_S = 5.0
"""Seconds after the first signal in which further ones are ignored: the shutdown takes
milliseconds. Heuristic.
"""

ENDING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Signalled(KeyboardInterrupt):
    """Raised in the main thread by a signal that ends the process; a KeyboardInterrupt, so that it
    is handled like Ctrl-C.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextmanager
def orderly_shutdown(now: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Inside, the signals of `ENDING` raise `Signalled`; those that follow within `GRACE_S` are
    ignored.

    A signal that is ignored stays ignored (SIGHUP under nohup). Does nothing outside the main
    thread, where signals cannot be handled.
    """
    first_time: list[float] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if first_time and now() - first_time[0] < GRACE_S:
            return
        first_time[:] = [now()]
        raise Signalled(number)

    previous: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    previous[number] = signal.signal(number, handle)
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore the signals of `ENDING` while the process exits: one would only add a traceback."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
