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

    # Optional members of a workload:
    # - `memory: bool`: whether `finish` measures memory, which is slow; set before the first call.
    # - `warmed() -> None`: called after warm-up; the times so far do not count.
    # - `timings() -> list[Measurement]`: the part of `finish` that the rounds timed, such as every
    #   iteration of a block. It is called in place of `finish` where another process of the
    #   replicate gives the rest.
    # - `observe(metrics) -> list[Measurement]`: metrics that need seconds of sustained load
    #   (`utilisation`, `energy`); called once a run, before `finish`.
