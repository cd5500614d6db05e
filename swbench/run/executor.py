"""The executor: it runs one job in a fresh process and reports how the process ended."""

import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from swbench.plugins import Plugin
from swbench.ranks.nodes import JobOnNodes, Nodes
from swbench.result import CRASHED, OUT_OF_MEMORY, TIMED_OUT
from swbench.store.files import cannot
from swbench.worker import exit_reason
from swbench.worker.job import EXIT_OUT_OF_MEMORY, Ending, Job
from swbench.worker.messages import End, Message, RestartNeeded, decode
from swbench.worker.process import MalformedOutput, WorkerProcess, environment

_DUMP_S = 5.0
"""Timeout for a worker over its time limit to write its stacks to the log; heuristic."""

_EXIT_S = 10.0
"""Timeout for a worker that is done to exit; heuristic."""


_START_S = 120.0
"""Shortest time limit of a worker's start and imports, whatever the limit of a case. Heuristic:
torch from a cold network disk takes a minute.
"""


class Executor(Protocol):
    """Runs jobs one at a time."""

    def run(self, job: Job, on_message: Callable[[Message], None]) -> Ending:
        """Run a job to its end. The worker waits while `on_message` handles its message.

        When this returns, nothing of the job runs on any node. When it raises, nothing of it runs
        on this node, and other nodes end their ranks when the run ends (`Nodes.end`) or this node
        is lost.
        """


class SubprocessExecutor:
    """Each job in a process of its own; its stdout, stderr and stacks go to `logs`/`job.log`.

    While a region is timed the parent sleeps in one `poll` on the worker's pipe.
    """

    def __init__(
        self,
        logs: Path,
        paths: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        plugins: Sequence[Plugin] = (),
        nodes: Nodes | None = None,
    ) -> None:
        """`paths` go in front of the worker's import path; `environ` adds to its environment;
        `plugins` are files that it executes first.

        `nodes` are the other machines, for cases that run on several; where one is lost, `run`
        raises NodeLost.
        """
        self._logs, self._paths, self._environ, self._plugins = (
            logs,
            tuple(paths),
            dict(environ or {}),
            tuple(plugins),
        )
        self._nodes = nodes or Nodes({}, {})

    def run(self, job: Job, on_message: Callable[[Message], None]) -> Ending:
        kills = exit_reason.oom_kills()
        log = self._logs / job.log
        _create_log(log)
        job_on_nodes = (
            self._nodes.begin(job, self._plugins) if job.nodes > 1 else JobOnNodes({}, {})
        )
        with WorkerProcess(
            job,
            log,
            environment(job.threads, self._paths) | self._environ,
            self._plugins,
            job_on_nodes.place,
        ) as worker:
            ending = self._listen(worker, job_on_nodes, job, on_message, kills)
        job_on_nodes.stop(_EXIT_S if ending.ok else 0.0, dump=ending.status == TIMED_OUT)
        with contextlib.suppress(FileNotFoundError):
            if ending.ok and log.stat().st_size == 0:
                log.unlink()
            elif not ending.ok:
                job_on_nodes.save_logs(log)
        return ending

    def _listen(
        self,
        worker: WorkerProcess,
        job_on_nodes: JobOnNodes,
        job: Job,
        on_message: Callable[[Message], None],
        kills: int,
    ) -> Ending:
        limit_s = job.protocol.case_limit_s
        while True:
            try:
                line = _next_line(worker, job_on_nodes, limit_s)
                if line is None and (report := job_on_nodes.failed()):
                    return _failed_on_node(worker, job, report)
                if line is None:
                    return _timed_out(worker, job, limit_s)
                if not line:
                    return _died(worker, job, kills)
                message = decode(line, job)
            except (MalformedOutput, ValueError) as problem:
                detail = (
                    f" ({str(problem)[:200] or 'bytes without end'}); it was ended{_log_hint(job)}"
                )
                return _failed(worker, CRASHED, "the worker wrote an invalid message", detail)
            on_message(message)
            worker.acknowledge()
            if isinstance(message, End | RestartNeeded):
                worker.wait(_EXIT_S)
                return Ending(
                    ok=isinstance(message, End), restart=isinstance(message, RestartNeeded)
                )


def _create_log(log: Path) -> None:
    """Create an empty log. The run's folder must exist: one that was removed is not created again.
    Raises StoreError.
    """
    try:
        log.parent.mkdir(exist_ok=True)
        log.touch()
    except OSError as problem:
        raise cannot("write", log, problem) from problem


def _next_line(worker: WorkerProcess, job_on_nodes: JobOnNodes, limit_s: float) -> bytes | None:
    """The worker's next line; None where its current stage has taken longer than `limit_s` seconds,
    or ranks on another node have failed.
    """
    while True:
        line = worker.line(max(0.0, _time_left_s(worker, limit_s)), job_on_nodes.handles())
        if line is not None or job_on_nodes.failed() or _time_left_s(worker, limit_s) <= 0:
            return line


def _time_left_s(worker: WorkerProcess, limit_s: float) -> float:
    """Seconds that the worker's current stage may still take."""
    _, stage, running_s = worker.heartbeat.read()
    return (max(limit_s, _START_S) if stage == "starting" else limit_s) - running_s


def _failed(worker: WorkerProcess, status: str, reason: str, suffix: str = "") -> Ending:
    """The ending of a worker whose running case failed: the reason, and at which stage."""
    case, stage, _ = worker.heartbeat.read()
    return Ending(ok=False, culprit=case, status=status, detail=f"{reason} while {stage}{suffix}")


def _timed_out(worker: WorkerProcess, job: Job, limit_s: float) -> Ending:
    reason = f"over the limit of {limit_s:g} s"
    ending = _failed(worker, TIMED_OUT, reason, f"; stacks in logs/{job.log}")
    # on SIGABRT its fault handler writes every thread's stack to the log
    worker.signal(signal.SIGABRT)
    worker.wait(_DUMP_S)
    return ending


def _died(worker: WorkerProcess, job: Job, kills: int) -> Ending:
    code = worker.wait(_EXIT_S)
    if code is None:
        went_on = f" and went on; it was ended{_log_hint(job)}"
        return _failed(worker, CRASHED, "the worker closed its pipe", went_on)
    if code == -signal.SIGKILL and exit_reason.oom_kills() > kills:
        return _failed(worker, OUT_OF_MEMORY, _BY_KERNEL)
    last_output = (
        "" if code < 0 and job.world == 1 else _parenthesised(exit_reason.last_line(worker.log))
    )
    return _failed(worker, _status(code), exit_reason.describe(code), last_output + _log_hint(job))


def _failed_on_node(worker: WorkerProcess, job: Job, report: Mapping[str, Any]) -> Ending:
    """The ending of a worker whose ranks on another node have failed."""
    code, node = int(report["code"]), report["node"]
    if report.get("no_memory"):
        return _failed(worker, OUT_OF_MEMORY, f"{_BY_KERNEL} on node {node}")
    detail = _parenthesised(f"node {node}: {report.get('last_line') or 'no output'}")
    log = Path(job.log).with_suffix(f".node{node}.log")
    return _failed(worker, _status(code), exit_reason.describe(code), f"{detail}; see logs/{log}")


_BY_KERNEL = "killed by the kernel, which was out of memory,"


def _status(code: int) -> str:
    return OUT_OF_MEMORY if code == EXIT_OUT_OF_MEMORY else CRASHED


def _parenthesised(text: str) -> str:
    return f" ({text})" if text else ""


def _log_hint(job: Job) -> str:
    return f"; see logs/{job.log}"
