"""bench.py with fake workloads and a fake machine: `TINY_ACT="2 3:remove"` has the second worker of
a run do something at its third call, and above batch `TINY_FITS` the variant runs out of memory.
"""

import dataclasses
import os
import shutil
import signal
import sys
import threading

TARGET = "tiny_bench:Scripted"


def record():
    """An environment; `TINY_TORCH` and `TINY_VARIABLES` change it."""
    variables = dict(pair.split("=") for pair in os.environ.get("TINY_VARIABLES", "").split())
    return {
        "label": "tiny",
        "packages": {"torch": os.environ.get("TINY_TORCH", "2.13")},
        "variables": variables,
        "now": {"load": os.getpid()},
    }


try:
    from fakes import Tiny
except ImportError:  # the parent needs only what is above
    Tiny = object


class Scripted(Tiny):
    """The variant's workload does what the environment says, in the worker that it says. Workers
    count themselves when they build their first case, of several ranks each.
    """

    counted = False

    def __init__(self, case):
        count = os.environ["TINY_COUNT"]
        worker, _, act = os.environ.get("TINY_ACT", "").partition(" ")
        if not Scripted.counted:
            Scripted.counted = True
            with open(count, "ab") as file:
                file.write(b".")
        # the ranks of one worker count themselves at about the same time
        acts_here = act and 0 <= int(worker) - os.path.getsize(count) < case.world
        if acts_here and case.role == "variant":
            case = dataclasses.replace(case, model=act)
        elif case.role == "variant" and case.batch > int(os.environ.get("TINY_FITS", "1000000")):
            case = dataclasses.replace(case, model="build:memory")
        super().__init__(case)

    def _remove(self):
        shutil.rmtree("results")

    def _fill(self):
        with open("results/filler", "wb", buffering=0) as file:
            try:
                while file.write(b"x" * 4096):
                    pass
            except OSError:
                pass

    def _terminate(self):
        os.kill(os.getppid(), signal.SIGTERM)
        threading.Event().wait()

    def _hangup(self):
        os.kill(os.getppid(), signal.SIGHUP)
        threading.Event().wait()

    def _twice(self):
        os.kill(os.getppid(), signal.SIGINT)
        os.kill(os.getppid(), signal.SIGINT)
        threading.Event().wait()

    def _kill_node(self):
        """From a rank, the process of its node that torchrun started: the parent of its
        launcher.
        """
        import psutil

        os.kill(psutil.Process(os.getppid()).ppid(), signal.SIGKILL)
        threading.Event().wait()

    def _kill_parent(self):
        os.kill(os.getppid(), signal.SIGKILL)
        threading.Event().wait()


if __name__ == "__main__":
    from swbench.cli import main
    from swbench.machine import environment
    from swbench.probes import WORKLOADS

    WORKLOADS._table["network"] = TARGET
    environment.record = record
    sys.argv[0] = "bench.py"
    main()
