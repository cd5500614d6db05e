"""The exception tree: every mistake a user can make, each as one line that names the place, the
value and the remedy.

SwbenchError                 the user's mistake; `cli` prints the message and exits with `exit_code`
 ├─ UnknownName              no such suite, model, norm, solver, probe, rule …; suggests the nearest
     name
 ├─ OptionError              a command-line value out of range, or options that contradict each
     other
 ├─ SuiteError               a suite file is wrong; carries every problem at once
 ├─ DeviceError              the device asked for is not here
 ├─ StoreError               a results folder cannot be written, read, or trusted
 │   ├─ StoreBusy            another process holds it
 │   ├─ StoreDamaged         a line in the middle of a file is not what was written
 │   └─ SchemaTooNew         written by a later version
 ├─ ResumeRefused            suite, code or environment changed since the run began
 ├─ UnlikeEnvironments       two runs cannot be compared as they stand
 ├─ NodeLost                 another machine of the run is gone
 ├─ NotCounted               an operation that a FLOP rule does not know
 └─ ProfileFailed            the profiling process ran out of memory, crashed or took too long

Misuse of the Python API (a wrong shape, say) is `ValueError`, not one of these.
"""

import difflib
from collections.abc import Iterable, Sequence


def printable(text: object) -> str:
    """`text` with every control character escaped, so a name from a file cannot drive the
    terminal.
    """
    shown = str(text)
    return (
        shown
        if shown.isprintable()
        else "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)
    )


def near_miss(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'x'?` for the closest known name, the first among equally close ones; else an
    empty string.
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=len(known) or 1, cutoff=0.6)
    if not close:
        return ""
    nearest = difflib.SequenceMatcher(a=close[0], b=name).ratio()
    first = next(
        other
        for other in known
        if other in close and difflib.SequenceMatcher(a=other, b=name).ratio() >= nearest
    )
    return f" Did you mean {first!r}?"


class SwbenchError(Exception):
    """The user's mistake: one line that says what, where and what to do."""

    exit_code = 2


class UnknownName(SwbenchError):
    """A name that no table holds; the message lists what there is and the nearest match."""

    def __init__(self, kind: str, name: str, known: Sequence[str], where: str = "") -> None:
        self.kind, self.name, self.known = kind, name, tuple(known)
        place = f" in {where}" if where else ""
        hint = near_miss(name, known)
        super().__init__(
            f"no {kind} is called {printable(name)!r}{place}.{hint} Known: "
            f"{', '.join(known) or 'none'}."
        )


class OptionError(SwbenchError):
    """A command-line value out of range, or options that contradict each other."""


class SuiteError(SwbenchError):
    """A suite file is wrong. `problems` holds every one of them, each with its key path."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source, self.problems = source, tuple(problems)
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        lines = "".join(f"\n  {printable(problem)}" for problem in problems)
        super().__init__(f"{printable(source)}: {count}, nothing was run:{lines}")


class DeviceError(SwbenchError):
    """The device asked for is not on this machine, or this torch build cannot use it."""


class StoreError(SwbenchError):
    """A results folder cannot be written, read, or trusted."""


class StoreBusy(StoreError):
    """Another process is writing to the run."""


class StoreDamaged(StoreError):
    """A line in the middle of a results file is not what was written."""


class SchemaTooNew(StoreError):
    """The run was written by a later version of swbench."""


class ResumeRefused(SwbenchError):
    """The suite, timing-relevant code or the environment changed since the run began."""


class UnlikeEnvironments(SwbenchError):
    """Two runs come from environments that differ in something that changes timings."""


class NodeLost(SwbenchError):
    """Another machine of the run is gone, or never came."""

    exit_code = 3


class NotCounted(SwbenchError):
    """An operation that the FLOP rule in use does not know."""


class ProfileFailed(SwbenchError):
    """The process that profiles ran out of memory, crashed or took too long."""

    exit_code = 3
