"""Memory: the peak of one call as torch's allocator sees it, and a device that ran out of it."""

import contextlib
from collections.abc import Callable, Iterator

import torch

from swbench.clock.events import Gpu


def peak_allocated(call: Callable[[], object]) -> int | None:
    """The most bytes that were allocated on the CPU at once during `call`, beyond those before it;
    None where torch does not say.

    The resident set of the process would not do: other cases share it, and freed pages stay in it.
    Takes the profiler's record of every allocation, so it is nothing to be done while timing.
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
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak if changes else None


@contextlib.contextmanager
def told(gpu: Gpu | None) -> Iterator[None]:
    """Turns torch's out-of-memory error into a MemoryError with the peak of this process and the
    memory of the device, in GiB.
    """
    try:
        yield
    except torch.OutOfMemoryError as problem:
        if gpu is None:
            raise
        peak, total = (size / (1 << 30) for size in gpu.memory())
        wanted = " ".join(str(problem).split()).partition(" GPU ")[0][:200]
        raise MemoryError(f"peak {peak:.2f} GiB of {total:.2f} GiB; {wanted}") from None
