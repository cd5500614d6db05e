"""The doctor: checks of what this machine can measure and what would disturb it, with fixes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swbench.doctor import clocks, cores, stack, storage
from swbench.doctor.check import BAD, OK, WARN, Check

__all__ = ["BAD", "OK", "WARN", "Check", "examine"]


def examine(
    environment: Mapping[str, Any] | None = None,
    *,
    results: str | Path = "results",
    threads: int | None = None,
    native: Callable[[], str | None] | None = None,
) -> list[Check]:
    """Run every check, in a fixed order. Takes about two seconds, mostly to load torch in a
    subprocess.

    `environment` is an environment record (by default a new one), `results` the folder of the runs,
    and `threads` the intended number of threads (by default that of a run). `native` returns why
    the native extension is not in use, or None.
    """
    from swbench.machine.environment import record
    from swbench.machine.gpus import no_gpu_reason

    environment = environment if environment is not None else record()
    folder = Path(results)
    checks = [
        cores.threads(environment, threads),
        cores.quota(environment),
        cores.load(environment),
        cores.pressure(environment),
        cores.governor(environment),
        cores.turbo(environment),
        cores.numa(environment),
        cores.memory(environment),
        clocks.source(environment),
        clocks.counter(clocks.clock_grain()),
        storage.space(folder),
        storage.sync(folder),
        stack.torch(environment),
        stack.openmp(environment),
        stack.malloc(environment),
        stack.gpu(environment, None if environment["gpus"] else no_gpu_reason()),
        stack.triton(environment),
    ]
    return [*checks, stack.native(native())] if native is not None else checks
