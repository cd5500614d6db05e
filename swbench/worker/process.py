"""A worker process as its parent sees it: started in a session of its own, ended with everything it
started.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

from swbench import plugins as plugin_files
from swbench.plugins import Plugin
from swbench.worker.heartbeat import Heartbeat
from swbench.worker.job import Job

LONGEST_LINE = 16 * 2**20
"""Bytes without a line end after which the output of a worker counts as malformed."""

_RANKS_S = 10.0
"""Timeout for killed ranks to end; heuristic."""


class SupportsFileno(Protocol):
    """An object that `poll` takes."""

    def fileno(self) -> int: ...


_LOOK_S = 0.1
"""Interval of polling whether a worker has ended, where the system has no pidfd; heuristic."""


class MalformedOutput(Exception):
    """The worker sent a line that is too long."""


def environment(threads: int, paths: Sequence[str] = ()) -> dict[str, str]:
    """The worker's environment variables: `threads` for every library (0: unchanged), and waiting
    threads that sleep, because a spinning thread takes a core from others. `paths` go in front of
    PYTHONPATH.
    """
    package = str(Path(__file__).resolve().parents[2])
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            [*paths, package, *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
    }
    variables |= {
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
        "KMP_BLOCKTIME": "0",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
    }
    variables |= {
        "KINETO_LOG_LEVEL": "5"
    }  # the chatter of torch's profiler, which reads peak memory
    if threads:
        variables |= dict.fromkeys(
            (
                "OMP_NUM_THREADS",
                "MKL_NUM_THREADS",
                "OPENBLAS_NUM_THREADS",
                "VECLIB_MAXIMUM_THREADS",
                "NUMEXPR_NUM_THREADS",
            ),
            str(threads),
        )
    return variables


def _pid_handle(pid: int) -> int | None:
    """A pidfd, which is readable once the process has ended; None where the system has none or a
    sandbox refuses the call (ENOSYS, EPERM).
    """
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


class WorkerProcess:
    """A worker process, started by construction; `end` leaves nothing of it running."""

    def __init__(
        self,
        job: Job,
        log: Path,
        environ: Mapping[str, str],
        plugins: Sequence[Plugin] = (),
        place: Mapping[str, Any] | None = None,
    ) -> None:
        """`place` holds the launcher arguments of this node; empty where the job has one node."""
        self.log, self._scratch = log, log.with_suffix(".ranks")
        self._ranked = job.world > 1
        self._buffer = bytearray()
        with contextlib.ExitStack() as opened:
            read_end, report = os.pipe()
            opened.callback(os.close, report)
            ack, self._ack = os.pipe()
            opened.callback(os.close, ack)
            heartbeat = Heartbeat.file()
            opened.callback(os.close, heartbeat)
            self._report, self.heartbeat = read_end, Heartbeat(heartbeat)
            order = {
                "job": job.to_json(),
                "report": report,
                "ack": ack,
                "heartbeat": heartbeat,
                "parent": os.getpid(),
                "scratch": str(self._scratch),
            }
            order |= {"plugins": plugin_files.to_json(plugins), "place": dict(place or {})}
            # a file, so that a worker that reads nothing cannot block us
            stdin = opened.enter_context(tempfile.TemporaryFile())
            stdin.write(json.dumps(order).encode())
            stdin.seek(0)
            output = opened.enter_context(open(log, "ab"))
            command = [
                sys.executable,
                "-P",
                "-m",
                "swbench.worker.main" if job.world == 1 else "swbench.ranks.launcher",
            ]
            self._popen = subprocess.Popen(
                command,
                stdin=stdin,
                stdout=output,
                stderr=output,
                env=dict(environ),
                pass_fds=(report, ack, heartbeat),
                start_new_session=True,
            )
        os.set_blocking(self._report, False)
        self._pid_handle = _pid_handle(self._popen.pid)

    def line(self, timeout_s: float, others: Sequence[SupportsFileno] = ()) -> bytes | None:
        """The next line; empty when the worker has died with nothing left to say; None after
        `timeout_s` or where one of `others` is readable.

        Raises MalformedOutput where a line is too long.
        """
        poll, until = select.poll(), time.monotonic() + timeout_s
        poll.register(self._report, select.POLLIN)
        elsewhere = {other.fileno() for other in others}
        for handle in elsewhere:
            poll.register(handle, select.POLLIN)
        if self._pid_handle is not None:
            poll.register(self._pid_handle, select.POLLIN)
        while True:
            if (end := self._buffer.find(b"\n")) >= 0:
                line = bytes(self._buffer[:end])
                del self._buffer[: end + 1]
                return line
            if len(self._buffer) > LONGEST_LINE:
                raise MalformedOutput
            left_s = max(0.0, until - time.monotonic())
            wait_s = left_s if self._pid_handle is not None else min(left_s, _LOOK_S)
            ready = dict(poll.poll(wait_s * 1000 + 1))
            if not elsewhere.isdisjoint(ready):
                return None
            over = self._pid_handle in ready if self._pid_handle is not None else self._ended()
            if not ready and not over:
                if wait_s == left_s:
                    return None
                continue
            try:
                data = os.read(self._report, 65536)
            # a process that the worker started may hold the pipe open: then only the worker's own
            # end shows that nothing more comes
            except BlockingIOError:
                if over:
                    return b""
                continue
            if not data:
                return b""
            self._buffer += data

    def acknowledge(self) -> None:
        """Acknowledge its message, so that the worker goes on; does nothing if it is gone."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._ack, b"k")

    def wait(self, timeout_s: float) -> int | None:
        """The exit status (negative for a signal), or None if it still runs after `timeout_s`
        seconds. Its process group stays reserved until `end`.
        """
        if self._pid_handle is None:
            until = time.monotonic() + timeout_s
            while not self._ended() and (left_s := until - time.monotonic()) > 0:
                time.sleep(min(left_s, _LOOK_S))
        else:
            poll = select.poll()
            poll.register(self._pid_handle, select.POLLIN)
            poll.poll(timeout_s * 1000)
        ended = self._ended()
        if ended is None:
            return None
        return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status

    def _ended(self) -> os.waitid_result | None:
        """The status of the ended worker, None while it runs. It is not reaped."""
        return os.waitid(os.P_PID, self._popen.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the worker alone."""
        self._popen.send_signal(number)

    def end(self) -> None:
        """Kill the worker and all of its process group, and wait until it is gone."""
        ranks = self._ranks()
        try:
            self._kill(ranks)
        finally:  # a Ctrl-C may have cut the first attempt short
            self._kill(ranks)
            self._popen.wait()
            psutil.wait_procs(ranks, timeout=_RANKS_S)
            if self._ranked:
                shutil.rmtree(self._scratch, ignore_errors=True)
            for handle in (self._report, self._ack, self._pid_handle):
                if handle is not None:
                    with contextlib.suppress(OSError):
                        os.close(handle)
            self.heartbeat.close()

    def _ranks(self) -> list[psutil.Process]:
        """The ranks that a launcher started, each in a session of its own."""
        if not self._ranked or self._popen.returncode is not None:
            return []
        try:
            return psutil.Process(self._popen.pid).children(recursive=True)
        except psutil.Error:
            return []

    def _kill(self, ranks: Sequence[psutil.Process] = ()) -> None:
        # psutil compares the start time as well, so it kills no process that reuses the pid
        for rank in ranks:
            with contextlib.suppress(psutil.Error):
                rank.kill()
        if self._popen.returncode is not None:
            return  # reaped: another process may have its pid by now
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
