"""Workloads that misbehave on purpose, chosen by the name of the case's model; they import no torch
and take no time.
"""

import os
import resource
import signal
import subprocess
import sys
import threading

from swbench.case import BASELINE, CONTROL, Case
from swbench.plan import Group, Plan, Protocol
from swbench.probes.workload import Unsupported
from swbench.result import Measurement

TARGETS = {"network": "fakes:Tiny"}


def plan(*models: str, groups: int = 1, world: int = 1, **protocol) -> Plan:
    """A plan whose groups have a baseline, a control and a case for each model."""
    made = []
    for batch in range(1, groups + 1):
        cases = [
            Case(model="good", batch=batch, world=world, role=role) for role in (BASELINE, CONTROL)
        ]
        cases += [
            Case(model=model, norm="swa", layers=7, batch=batch, world=world) for model in models
        ]
        made.append(
            Group(
                name=f"cpu batch {batch}", cases=tuple(cases), rows=("BN", "BN (control)", *models)
            )
        )
    values = {
        "iterations": 4,
        "replicates": 2,
        "warmup_calls": 2,
        "warmup_s": 0.0,
        "warmup_cap_s": 0.0,
        **protocol,
    }
    return Plan(
        suite="fake",
        title="Fake",
        kind="network",
        groups=tuple(made),
        metrics=("time",),
        protocol=Protocol(**values),
    )


class Tiny:
    """A call takes as many fake seconds as its batch. `stage:act` in the model's name acts at
    building, in the nth call or at the end; `stage@1:act` on rank 1 alone, while the others wait
    for it in vain.
    """

    def __init__(self, case: Case) -> None:
        self._case, self._calls = case, 0
        self.chosen = {"solver": "fake", "threads": os.environ.get("OMP_NUM_THREADS", "")}
        self._act("build")

    def call(self) -> dict[str, float]:
        self._calls += 1
        self._act(str(self._calls))
        return {"forward_s": float(self._case.batch), "forward_backward_s": 2.0 * self._case.batch}

    def finish(self) -> list[Measurement]:
        self._act("finish")
        return [Measurement("error", "1", (float("nan"), float(os.getpid())))]

    def _act(self, stage: str) -> None:
        when, _, what = self._case.model.partition(":")
        when, _, rank = when.partition("@")
        if when == stage:
            if rank and rank != os.environ["RANK"]:
                threading.Event().wait()  # as in a collective that one rank never joins
            getattr(self, f"_{what}")()

    def _unsupported(self):
        raise Unsupported("no such thing here")

    def _memory(self):
        raise MemoryError

    def _full(self):
        """As much memory as a limit allows, for real."""
        resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
        self._hoard = [bytearray(2**26) for _ in range(32)]

    def _full_torch(self):
        import torch

        torch.empty(2**50, dtype=torch.uint8)

    def _hog(self):
        """In a control group with little memory, take more: the kernel kills."""
        with open(os.environ["SWBENCH_CGROUP_TEST"] + "/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
        self._hoard = bytearray(os.urandom(2**20)) * 512

    def _raise(self):
        raise ZeroDivisionError("on purpose\nsecond line")

    def _leave(self):
        sys.exit(5)

    def _vanish(self):
        os._exit(5)

    def _segfault(self):
        os.kill(os.getpid(), signal.SIGSEGV)

    def _killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def _stopped(self):
        os.kill(os.getpid(), signal.SIGSTOP)

    def _stop_briefly(self):
        _stopped_for(0.3)

    def _stop_long(self):
        _stopped_for(3)

    def _freeze(self):
        """Frozen with its control group, as a paused container is."""
        folder = os.environ["SWBENCH_FREEZER_TEST"]
        _wait_for(
            f"echo {os.getpid()} > {folder}/cgroup.procs\n"
            f"{os.environ['SWBENCH_FREEZE']}\nsleep 0.3\n{os.environ['SWBENCH_THAW']}"
        )

    def _deadlock(self):
        threading.Event().wait()

    def _print(self):
        sys.stdout.write("hello from a library\n")
        sys.stderr.write("and a warning\n")

    def _garbage(self):
        for handle in _pipes():
            os.write(handle, b"\x00\xffgarbage\n")
        # the call is not over before it is noticed, as no real call would be
        threading.Event().wait()

    def _lie(self):
        for handle in _pipes():
            os.write(handle, b'["Failed",{"case":"0123456789abcdef","status":"ok","detail":""}]\n')
        threading.Event().wait()

    def _flood(self):
        for handle in _pipes():
            while True:
                os.write(handle, b"x" * 65536)

    def _close(self):
        for handle in _pipes():
            os.close(handle)
        threading.Event().wait()

    def _orphan(self):
        if os.fork() == 0:
            threading.Event().wait()
        os.kill(os.getpid(), signal.SIGKILL)

    def _parent(self):
        os.kill(os.getppid(), signal.SIGKILL)
        threading.Event().wait()

    def _interrupt(self):
        os.kill(os.getppid(), signal.SIGINT)
        threading.Event().wait()


def _stopped_for(seconds: float) -> None:
    """This process, stopped by another one and continued."""
    me = os.getpid()
    _wait_for(f"kill -STOP {me}\nsleep {seconds}\nkill -CONT {me}")


def _wait_for(script: str) -> None:
    """Compute until a shell script, which may hold this process up, has ended."""
    with subprocess.Popen(["/bin/sh", "-c", script]) as shell:
        while shell.poll() is None:
            pass


def _pipes() -> list[int]:
    """The descriptors this worker may write messages to."""
    handles = []
    for handle in range(3, 64):
        try:
            link = os.readlink(f"/proc/self/fd/{handle}")
            flags = int(open(f"/proc/self/fdinfo/{handle}").read().split("flags:")[1].split()[0], 8)  # noqa: SIM115
        except OSError:
            continue
        if link.startswith("pipe:") and flags & 3 == os.O_WRONLY:
            handles.append(handle)
    return handles
