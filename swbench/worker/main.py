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
from swbench.worker.heartbeat import Page
from swbench.worker.job import EXIT_CRASHED, Job
from swbench.worker.messages import Message, encode
from swbench.worker.session import Session

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Read the job, measure, report; whatever a library prints goes to the log that stdout and
    stderr are.
    """
    order = json.load(sys.stdin)
    report, ack, page_handle = order["report"], order["ack"], order["page"]
    for handle in (report, ack, page_handle):
        os.set_inheritable(handle, False)
    tie_to(order["parent"])
    prepare()
    job, page = Job.from_json(order["job"]), Page(page_handle)
    plugins.load(plugins.from_json(order["plugins"]))
    classes = workloads(job)
    if "torch" in sys.modules and job.threads:
        sys.modules["torch"].set_num_threads(job.threads)
    Session(
        job,
        lambda case: classes[case.kind](case),
        Line(report, ack).send,
        page.begin,
        look=looking(job),
    ).run()


def looking(job: Job) -> Callable[[], Mapping[str, float]]:
    """What looks at the GPU around each block, where the job runs on one; nothing else has such
    readings.
    """
    device = next((case.device for case in job.cases if case.device != "cpu"), None)
    if device is None or "torch" not in sys.modules:
        return dict
    from swbench.clock.cuda import gpu_for
    from swbench.probes.nvml import nvml_device

    gpu = gpu_for(device)
    return dict if gpu is None else nvml_device(gpu.uuid).readings


class Line:
    """The worker's end of the pipes: a message out, then an acknowledgement in."""

    def __init__(self, report: int, ack: int) -> None:
        self._report, self._ack = report, ack

    def send(self, message: Message) -> None:
        """Returns when the parent has dealt with the message. Ends the process where the parent is
        gone.
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


def tie_to(parent: int) -> None:
    """Have the kernel kill this process when its parent dies, on Linux; elsewhere the next message
    ends it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def workloads(job: Job) -> dict[str, Callable[[AnyCase], Workload]]:
    """What makes a workload of each kind of case that the job has, imported."""
    kinds = {case.kind for case in job.cases}
    return {
        kind: partial(_made, pkgutil.resolve_name(target), job)
        for kind, target in job.workloads.items()
        if kind in kinds
    }


def _made(workload: Callable[[AnyCase], Workload], job: Job, case: AnyCase) -> Workload:
    made = workload(case)
    if hasattr(made, "memory"):
        made.memory = "memory" in job.observe
    return made


def prepare() -> None:
    """No core dumps; stacks of every thread to the log where the process is made to abort."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.enable(all_threads=True)


def run(main: Callable[[], None]) -> NoReturn:
    """Call `main` and end this process: a worker's, or a rank's."""
    try:
        main()
    except Exception:  # noqa: BLE001  the log is all that is left to tell it to
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(EXIT_CRASHED)
    sys.stdout.flush()
    os._exit(0)  # at-exit code of libraries measures nothing and can hang


if __name__ == "__main__":
    run(main)
