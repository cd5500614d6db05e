"""The doctor: what this machine can measure, what would spoil it, and the fix for each."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swbench.doctor import clocks, cores, stack, storage
from swbench.doctor.check import BAD, OK, WARN, Check

__all__ = ["BAD", "OK", "WARN", "Check", "examine"]


def examine(
    found: Mapping[str, Any] | None = None,
    *,
    results: str | Path = "results",
    threads: int | None = None,
    native: Callable[[], str | None] | None = None,
) -> list[Check]:
    """Every check, in a fixed order. Takes about two seconds, most of them to load torch in a
    process of its own.

    `found` is an environment record (taken now by default), `results` the folder runs are written
    to, `threads` the thread count that is meant (default: what a run would take), `native` says why
    the native extension is not in use.
    """
    from swbench.machine.environment import record
    from swbench.machine.gpus import no_gpu_reason

    found = found if found is not None else record()
    folder = Path(results)
    checks = [
        cores.threads(found, threads),
        cores.quota(found),
        cores.load(found),
        cores.pressure(found),
        cores.governor(found),
        cores.turbo(found),
        cores.numa(found),
        cores.memory(found),
        clocks.source(found),
        clocks.counter(clocks.clock_grain()),
        storage.space(folder),
        storage.sync(folder),
        stack.torch(found),
        stack.openmp(found),
        stack.malloc(found),
        stack.gpu(found, None if found["gpus"] else no_gpu_reason()),
        stack.triton(found),
    ]
    return [*checks, stack.native(native())] if native is not None else checks
