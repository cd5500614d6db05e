"""The contract between a run and what it times: one case, built once, called many times, read out
at the end.
"""

from typing import Protocol

from swbench.case import AnyCase
from swbench.result import Measurement


class Unsupported(Exception):
    """The case cannot run on this machine (no CUDA, no Triton, a layout a solver lacks …): status
    `unsupported`, `reason` its detail.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Workload(Protocol):
    """One case made ready to be timed.

    Building it and every call may raise MemoryError or torch's out-of-memory error (status
    `out_of_memory`), `Unsupported`, or anything else (status `crashed`). The case is never altered
    to make it run.
    """

    chosen: dict[str, str]
    """Decisions at run time, such as the `solver` that `auto` chose and the `kernels`; stored with
    the result as they are.
    """

    def __init__(self, case: AnyCase) -> None:
        """Build everything the timed calls need: model or matrices, inputs, cotangents."""

    def call(self) -> dict[str, float]:
        """One timed call: metric -> seconds.

        `forward_s` and `forward_backward_s` are wall time from the start of the call;
        `forward_cpu_s` and `forward_backward_cpu_s`, where present, the CPU time of the process
        over the same spans.
        """

    def finish(self) -> list[Measurement]:
        """Measurements outside the timed calls, once, after the last of them: accuracy, memory and
        such.
        """

    # What else a workload may have and need not:
    # memory: bool                          whether `finish` is to measure memory, which is slow;
    # set by the engine before the first call
    # warmed() -> None                      warm-up is over; what was timed so far does not count
    # timings() -> list[Measurement]        the part of `finish` that was timed in the rounds, such
    # as every iteration of a block; asked in the place of
    # `finish` where another process of the replicate has given the rest
    # observe(metrics) -> list[Measurement] what needs a loop of seconds of its own (`utilisation`,
    # `energy`), once a run, before `finish`
