"""A node other than the first: it starts the ranks that the first one asks for, ends them, and ends
with the first one.
"""

import contextlib
import os
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swbench.errors import NodeLost
from swbench.plugins import from_json
from swbench.ranks.connection import Link, Lost
from swbench.worker import exit_reason as death
from swbench.worker.job import Job
from swbench.worker.process import WorkerProcess, environment

_DUMP_S = 5.0
"""How long ranks have to write their stacks; heuristic."""

_EXIT_S = 10.0
"""How long a launcher whose pipe has closed may take to exit; heuristic."""

_WHILE_S = 3600.0
"""A wait without a limit is one of this length, again and again."""

LONGEST_LOG = 2**18
"""Bytes from the end of a log that are sent to the first node."""


class _Ended(Exception):
    """The first node said that the run is over, and with which exit status."""

    def __init__(self, code: int) -> None:
        self.code = code


def follow(link: Link, paths: Sequence[str] = (), environ: Mapping[str, str] | None = None) -> int:
    """Do what the first node says until it says that this is the end; the exit status it gives.
    Raises NodeLost where it is gone.

    `paths` and `environ` are as for `SubprocessExecutor`.
    """
    try:
        while True:
            order = link.wait()
            if _still(order).get("do") == "start":
                _measure(link, order, paths, environ or {})
    except _Ended as end:
        with contextlib.suppress(Lost):
            link.send(ended=True)
        return end.code
    except (Lost, KeyboardInterrupt) as problem:
        # which may end this node because node 0 has ended
        by_torchrun = getattr(problem, "number", None) == signal.SIGTERM
        why = str(problem) if isinstance(problem, Lost) else link.gone() if by_torchrun else ""
        if not why:
            raise
        raise NodeLost(f"node 0 is gone ({why}); this node ends with it") from None
    finally:
        link.close()


def _measure(
    link: Link, order: Mapping[str, Any], paths: Sequence[str], environ: Mapping[str, str]
) -> None:
    """Run this node's ranks of one job until they end or are to stop, and report it once."""
    job, kills = Job.from_json(order["job"]), death.out_of_memory_kills()
    with tempfile.TemporaryDirectory(prefix="swbench-") as folder:
        log = Path(folder) / job.log
        with WorkerProcess(
            job,
            log,
            environment(job.threads, paths) | environ,
            from_json(order["plugins"]),
            order["place"],
        ) as worker:
            told = _until_told(link, worker)
            code = worker.wait(float(told["grace_s"]) if told else _EXIT_S)
            by_itself = code is not None
            if told and told["dump"] and not by_itself:
                worker.signal(signal.SIGABRT)
                worker.wait(_DUMP_S)
        killed = by_itself and code == -signal.SIGKILL and death.out_of_memory_kills() > kills
        link.send(
            code=(code if by_itself else 0),
            no_memory=killed,
            said=death.last_words(log),
            log=_end_of(log),
        )
    while not told:
        told = _stop(link.wait())


def _until_told(link: Link, worker: WorkerProcess) -> Mapping[str, Any] | None:
    """What the first node says while the ranks run; None once they have ended by themselves."""
    while True:
        # they write nothing there, so it is the end of the pipe
        if worker.line(_WHILE_S, [link]) is not None:
            return None
        if told := _stop(link.take()):
            return told


def _stop(message: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The message if it says to stop."""
    return message if message and _still(message).get("do") == "stop" else None


def _still(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message, unless the run is over."""
    if message.get("do") == "end":
        raise _Ended(int(message.get("code", 1)))
    return message


def _end_of(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_LOG))
        return file.read().decode("utf-8", "replace")
