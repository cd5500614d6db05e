"""The follower: what runs on every node but the first. It starts and ends ranks as the first node
orders, and ends with it.
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
from swbench.ranks.connection import Connection, ConnectionLost
from swbench.worker import exit_reason
from swbench.worker.job import Job
from swbench.worker.process import WorkerProcess, environment

_DUMP_S = 5.0
"""Timeout for ranks to write their stacks; heuristic."""

_EXIT_S = 10.0
"""Timeout for a launcher whose pipe has closed to exit; heuristic."""

_LONG_WAIT_S = 3600.0
"""Length of one wait where there is no limit; it is repeated."""

LONGEST_LOG = 2**18
"""Bytes from the end of a log that are sent to the first node."""


class _Ended(Exception):
    """The first node ended the run, with this exit status."""

    def __init__(self, code: int) -> None:
        self.code = code


def follow(
    connection: Connection, paths: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> int:
    """Follow the orders of the first node until it ends the run; returns the exit status it sends.
    Raises NodeLost where the first node is gone.

    `paths` and `environ` are as for `SubprocessExecutor`.
    """
    try:
        while True:
            order = connection.wait()
            if _unless_ended(order).get("do") == "start":
                _measure(connection, order, paths, environ or {})
    except _Ended as end:
        with contextlib.suppress(ConnectionLost):
            connection.send(ended=True)
        return end.code
    except (ConnectionLost, KeyboardInterrupt) as problem:
        # torchrun ends this node with SIGTERM when node 0 has ended
        by_torchrun = getattr(problem, "number", None) == signal.SIGTERM
        why = (
            str(problem)
            if isinstance(problem, ConnectionLost)
            else connection.loss_reason()
            if by_torchrun
            else ""
        )
        if not why:
            raise
        raise NodeLost(f"node 0 is gone ({why}); this node ends with it") from None
    finally:
        connection.close()


def _measure(
    connection: Connection,
    order: Mapping[str, Any],
    paths: Sequence[str],
    environ: Mapping[str, str],
) -> None:
    """Run this node's ranks of one job until they end or are stopped, and send one report."""
    job, kills = Job.from_json(order["job"]), exit_reason.oom_kills()
    with tempfile.TemporaryDirectory(prefix="swbench-") as folder:
        log = Path(folder) / job.log
        with WorkerProcess(
            job,
            log,
            environment(job.threads, paths) | environ,
            from_json(order["plugins"]),
            order["place"],
        ) as worker:
            stop = _until_stop(connection, worker)
            code = worker.wait(float(stop["grace_s"]) if stop else _EXIT_S)
            ended_by_itself = code is not None
            if stop and stop["dump"] and not ended_by_itself:
                worker.signal(signal.SIGABRT)
                worker.wait(_DUMP_S)
        killed_for_memory = (
            ended_by_itself and code == -signal.SIGKILL and exit_reason.oom_kills() > kills
        )
        connection.send(
            code=(code if ended_by_itself else 0),
            no_memory=killed_for_memory,
            last_line=exit_reason.last_line(log),
            log=_log_tail(log),
        )
    while not stop:
        stop = _stop(connection.wait())


def _until_stop(connection: Connection, worker: WorkerProcess) -> Mapping[str, Any] | None:
    """The stop message that arrives while the ranks run; None if they end by themselves first."""
    while True:
        # ranks of a follower write no line, so this is the end of the pipe
        if worker.line(_LONG_WAIT_S, [connection]) is not None:
            return None
        if stop := _stop(connection.receive_nowait()):
            return stop


def _stop(message: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The message if it is a stop message, else None. Raises _Ended at the end of the run."""
    return message if message and _unless_ended(message).get("do") == "stop" else None


def _unless_ended(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """The message. Raises _Ended if it ends the run."""
    if message.get("do") == "end":
        raise _Ended(int(message.get("code", 1)))
    return message


def _log_tail(log: Path) -> str:
    with open(log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - LONGEST_LOG))
        return file.read().decode("utf-8", "replace")
