"""The process that measures one replicate: `python -m swbench.worker.main`, with its job on stdin
and four inherited descriptors.
"""

import ctypes
import faulthandler
import json
import os
import pkgutil
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import NoReturn

from swbench import plugins
from swbench.case import AnyCase
from swbench.probes.workload import Workload
from swbench.worker.heartbeat import Heartbeat
from swbench.worker.job import EXIT_CRASHED, Job
from swbench.worker.messages import Message, encode
from swbench.worker.session import Session

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Read the job, measure, report. stdout and stderr are the log, which takes whatever a library
    prints.
    """
    order = json.load(sys.stdin)
    report, ack, heartbeat_handle = order["report"], order["ack"], order["heartbeat"]
    for handle in (report, ack, heartbeat_handle):
        os.set_inheritable(handle, False)
    die_with_parent(order["parent"])
    prepare()
    job, heartbeat = Job.from_json(order["job"]), Heartbeat(heartbeat_handle)
    plugins.load(plugins.from_json(order["plugins"]))
    classes = workloads(job)
    if "torch" in sys.modules and job.threads:
        sys.modules["torch"].set_num_threads(job.threads)
    Session(
        job,
        lambda case: classes[case.kind](case),
        MessageChannel(report, ack).send,
        heartbeat.begin,
        look=gpu_reader(job),
    ).run()


def gpu_reader(job: Job) -> Callable[[], Mapping[str, float]]:
    """The function that reads the state of the job's GPU before and after each block; on a CPU it
    returns no readings.
    """
    device = next((case.device for case in job.cases if case.device != "cpu"), None)
    if device is None or "torch" not in sys.modules:
        return dict
    from swbench.clock.cuda import gpu_for
    from swbench.probes.nvml import nvml_device

    gpu = gpu_for(device)
    return dict if gpu is None else nvml_device(gpu.uuid).readings


class MessageChannel:
    """The worker's end of the pipes: it writes a message, then reads an acknowledgement."""

    def __init__(self, report: int, ack: int) -> None:
        self._report, self._ack = report, ack

    def send(self, message: Message) -> None:
        """Send a message and wait until the parent has handled it. Exits this process where the
        parent is gone.
        """
        view = memoryview(encode(message))
        try:
            while view:
                view = view[os.write(self._report, view) :]
            answer = os.read(self._ack, 1)
        except BrokenPipeError:
            answer = b""
        if not answer:
            os._exit(1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, on Linux. Elsewhere the process exits
    at its next message.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def workloads(job: Job) -> dict[str, Callable[[AnyCase], Workload]]:
    """The workload constructors by kind of case, imported for the kinds that the job has."""
    kinds = {case.kind for case in job.cases}
    return {
        kind: partial(_build_workload, pkgutil.resolve_name(target), job)
        for kind, target in job.workloads.items()
        if kind in kinds
    }


def _build_workload(make: Callable[[AnyCase], Workload], job: Job, case: AnyCase) -> Workload:
    workload = make(case)
    if hasattr(workload, "memory"):
        workload.memory = "memory" in job.observe
    return workload


def prepare() -> None:
    """Turn core dumps off, and have the stacks of all threads written to the log on an abort."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(all_threads=True)


def run(main: Callable[[], None]) -> NoReturn:
    """Call `main` and end this process: a worker's, or a rank's."""
    try:
        main()
    except Exception:  # noqa: BLE001  no channel but the log is left to report it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(EXIT_CRASHED)
    sys.stdout.flush()
    os._exit(0)  # at-exit code of libraries measures nothing and can hang


if __name__ == "__main__":
    run(main)
