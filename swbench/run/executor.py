"""Running one job in a fresh process, and saying how it ended whatever it does."""

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
from swbench.worker.messages import Again, End, Message, decode
from swbench.worker.process import Garbage, WorkerProcess, environment

_DUMP_S = 5.0
"""How long a worker over its time limit has to write its stacks to the log; heuristic."""

_EXIT_S = 10.0
"""How long a worker that is done may take to exit; heuristic."""


_START_S = 120.0
"""The least that is granted to start and import, whatever the limit a case; heuristic: torch from a
cold network disk takes a minute.
"""


class Executor(Protocol):
    """Runs jobs one at a time."""

    def run(self, job: Job, on_message: Callable[[Message], None]) -> Ending:
        """Run a job to its end. The worker waits while `on_message` deals with what it sent.

        Nothing of it runs on this node when this returns or raises, and nothing on any other when
        this returns. Where it raises, other nodes end their ranks when they hear that the run is
        over (`Nodes.end`), or find this node gone.
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

        `nodes` are those of cases that are spread over several; where one of them is lost, `run`
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
        _make(log)
        share = self._nodes.begin(job, self._plugins) if job.nodes > 1 else JobOnNodes({}, {})
        with WorkerProcess(
            job,
            log,
            environment(job.threads, self._paths) | self._environ,
            self._plugins,
            share.place,
        ) as worker:
            ending = self._listen(worker, share, job, on_message, kills)
        share.stop(_EXIT_S if ending.ok else 0.0, dump=ending.status == TIMED_OUT)
        with contextlib.suppress(FileNotFoundError):
            if ending.ok and log.stat().st_size == 0:
                log.unlink()
            elif not ending.ok:
                share.save_logs(log)
        return ending

    def _listen(
        self,
        worker: WorkerProcess,
        share: JobOnNodes,
        job: Job,
        on_message: Callable[[Message], None],
        kills: int,
    ) -> Ending:
        limit_s = job.protocol.case_limit_s
        while True:
            try:
                line = _next_line(worker, share, limit_s)
                if line is None and (report := share.failed()):
                    return _failed_there(worker, job, report)
                if line is None:
                    return _timed_out(worker, job, limit_s)
                if not line:
                    return _died(worker, job, kills)
                message = decode(line, job)
            except (Garbage, ValueError) as problem:
                detail = f" ({str(problem)[:200] or 'bytes without end'}); it was ended{_see(job)}"
                return _failed(worker, CRASHED, "the worker wrote what is no message", detail)
            on_message(message)
            worker.acknowledge()
            if isinstance(message, End | Again):
                worker.wait(_EXIT_S)
                return Ending(ok=isinstance(message, End), again=isinstance(message, Again))


def _make(log: Path) -> None:
    """An empty log, in the folder of a run that is still there: one that was removed is not made
    again. Raises StoreError.
    """
    try:
        log.parent.mkdir(exist_ok=True)
        log.touch()
    except OSError as problem:
        raise cannot("write", log, problem) from problem


def _next_line(worker: WorkerProcess, share: JobOnNodes, limit_s: float) -> bytes | None:
    """The next line; None once whatever the worker does has taken longer than `limit_s`, or ranks
    on another node have failed.
    """
    while True:
        line = worker.line(max(0.0, _left(worker, limit_s)), share.handles())
        if line is not None or share.failed() or _left(worker, limit_s) <= 0:
            return line


def _left(worker: WorkerProcess, limit_s: float) -> float:
    """Seconds that what the worker is doing may still take."""
    _, stage, running_s = worker.page.read()
    return (max(limit_s, _START_S) if stage == "starting" else limit_s) - running_s


def _failed(worker: WorkerProcess, status: str, what: str, more: str = "") -> Ending:
    """An ending for which the case that was running is to blame: what happened, at which stage."""
    case, stage, _ = worker.page.read()
    return Ending(ok=False, culprit=case, status=status, detail=f"{what} while {stage}{more}")


def _timed_out(worker: WorkerProcess, job: Job, limit_s: float) -> Ending:
    what = f"over the limit of {limit_s:g} s"
    ending = _failed(worker, TIMED_OUT, what, f"; stacks in logs/{job.log}")
    # its fault handler writes every thread's stack to the log, then it dies
    worker.signal(signal.SIGABRT)
    worker.wait(_DUMP_S)
    return ending


def _died(worker: WorkerProcess, job: Job, kills: int) -> Ending:
    code = worker.wait(_EXIT_S)
    if code is None:
        went_on = f" and went on; it was ended{_see(job)}"
        return _failed(worker, CRASHED, "the worker closed its pipe", went_on)
    if code == -signal.SIGKILL and exit_reason.oom_kills() > kills:
        return _failed(worker, OUT_OF_MEMORY, _BY_KERNEL)
    last = "" if code < 0 and job.world == 1 else _in_brackets(exit_reason.last_line(worker.log))
    return _failed(worker, _status(code), exit_reason.describe(code), last + _see(job))


def _failed_there(worker: WorkerProcess, job: Job, report: Mapping[str, Any]) -> Ending:
    """As `_died`, of the ranks of another node."""
    code, node = int(report["code"]), report["node"]
    if report.get("no_memory"):
        return _failed(worker, OUT_OF_MEMORY, f"{_BY_KERNEL} on node {node}")
    detail = _in_brackets(f"node {node}: {report.get('last_line') or 'no output'}")
    log = Path(job.log).with_suffix(f".node{node}.log")
    return _failed(worker, _status(code), exit_reason.describe(code), f"{detail}; see logs/{log}")


_BY_KERNEL = "killed by the kernel, which was out of memory,"


def _status(code: int) -> str:
    return OUT_OF_MEMORY if code == EXIT_OUT_OF_MEMORY else CRASHED


def _in_brackets(text: str) -> str:
    return f" ({text})" if text else ""


def _see(job: Job) -> str:
    return f"; see logs/{job.log}"
