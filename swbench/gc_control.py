"""Control of Python's garbage collector, for code that it would slow down or disturb."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_disabled() -> Iterator[None]:
    """Turn the garbage collector off inside, and restore it afterwards.

    For work whose objects stay or hold no cycles (collecting takes half the time of reading a large
    run), and for timed loops.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
