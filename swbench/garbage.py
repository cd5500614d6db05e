"""Python's search for garbage, held off where it costs more than it finds."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for garbage inside, and the collector as it was afterwards.

    For work whose objects stay, or hold no cycles: looking through them again and again takes half
    the time of reading a large run. And for loops that are timed.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
