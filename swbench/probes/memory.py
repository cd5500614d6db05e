"""Memory: the peak of one call as torch's allocator sees it, and a device that ran out of it."""

import contextlib
from collections.abc import Callable, Iterator

import torch

from swbench.clock.events import Gpu


def peak_allocated(call: Callable[[], object]) -> int | None:
    """Peak of the bytes allocated on the CPU during `call`, beyond those before it; None where
    torch's profiler does not say.

    The resident set of the process would not do: other cases share it, and freed pages stay in it.
    The profiler records every allocation, so this must not run while something is timed.
    """
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True, acc_events=True
    ) as profiler:
        call()
    try:
        events = profiler.profiler.kineto_results.events()
        changes = sorted(
            (event.start_ns(), event.nbytes())
            for event in events
            if event.name() == "[memory]" and event.device_type() == torch.autograd.DeviceType.CPU
        )
    except AttributeError:  # not part of torch's stable interface
        return None
    current_bytes = peak_bytes = 0
    for _, change in changes:
        current_bytes += change
        peak_bytes = max(peak_bytes, current_bytes)
    return peak_bytes if changes else None


@contextlib.contextmanager
def oom_as_memory_error(gpu: Gpu | None) -> Iterator[None]:
    """A context that turns torch's out-of-memory error into a MemoryError which names this
    process's peak and the device's memory in GiB. With `gpu` None the error passes unchanged.
    """
    try:
        yield
    except torch.OutOfMemoryError as problem:
        if gpu is None:
            raise
        peak, total = (size / (1 << 30) for size in gpu.memory())
        wanted = " ".join(str(problem).split()).partition(" GPU ")[0][:200]
        raise MemoryError(f"peak {peak:.2f} GiB of {total:.2f} GiB; {wanted}") from None
