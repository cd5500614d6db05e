"""Peak memory of one call, as torch's allocator sees it."""

from collections.abc import Callable

import torch


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
