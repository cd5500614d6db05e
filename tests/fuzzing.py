"""Settings of the fuzz tests, and the time limit of one input. `SWBENCH_FUZZ` is the number of
generated inputs for each loader.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import HealthCheck, settings

INPUTS = int(os.environ.get("SWBENCH_FUZZ", "300"))
LIMIT_S = 1.0
"""Seconds of processor time one input may take; processor time, so that a busy machine is no
hang.
"""


def cases(of: int):
    """Hypothesis settings for one of the `of` tests of a loader."""
    return settings(
        max_examples=-(-INPUTS // of),
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@contextmanager
def promptly() -> Iterator[None]:
    """What is done within it must take no longer than `LIMIT_S`."""

    def hangs(*_):
        raise AssertionError(f"reading took more than {LIMIT_S:g} s of processor time")

    before = signal.signal(signal.SIGVTALRM, hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
