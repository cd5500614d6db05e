"""What the user is told whose run was stopped from outside."""

import signal

from swbench.errors import SwbenchError
from swbench.store import RunWriter


class Interrupted(SwbenchError):
    """The run was stopped by Ctrl-C or a signal; what was measured is readable. `exit_code` is 128
    + the signal: 130 for Ctrl-C, 143 for SIGTERM.
    """

    exit_code = 128 + signal.SIGINT

    @classmethod
    def after(cls, problem: KeyboardInterrupt, writer: RunWriter) -> "Interrupted":
        """The run of `writer` was stopped by `problem`, which names its signal in `number` where it
        was not Ctrl-C.
        """
        number = getattr(problem, "number", signal.SIGINT)
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        kept = (
            f"{len(writer.results)} finished cells are kept in {writer.path}; the same "
            "command with --resume goes on from there"
        )
        found = cls(f"interrupted{by}: {kept}")
        found.exit_code = 128 + number
        return found
