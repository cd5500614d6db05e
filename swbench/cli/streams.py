"""The standard streams: remarks on stderr, and streams that are closed, full or left by their
reader.
"""

import contextlib
import os
import sys
from typing import TextIO

from swbench.errors import printable


def open_closed() -> None:
    """Open the standard streams that the process was started without, on nothing: a file of a run
    would take their place, and get what is meant for them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  for as long as the process lives


def tell(*lines: object) -> None:
    """`lines` on stderr, whatever is in the names they mention. A stderr that takes nothing any
    more stops nothing.
    """
    said = "\n".join(map(printable, lines))
    with contextlib.suppress(OSError):
        print(f"bench.py: {said}", file=sys.stderr)


def drop(stream: TextIO) -> None:
    """Nothing that `stream` has still to write goes anywhere, nor can fail."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: closed, or no file at all
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def settle() -> None:
    """Write what stderr still holds, or drop it: Python tries again at the very end, and a failure
    there would take the place of the exit code.
    """
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        drop(sys.stderr)
