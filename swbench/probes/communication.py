"""Communication of a data-parallel network in one step: its bytes, its time, and how much of that
overlaps with computation. Never measured within timed rounds.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import distributed as dist

from swbench.clock.busy import union
from swbench.result import Measurement

PAIRS = 3
"""Pairs of steps, one with and one without communication. Each row of a table costs as many more.
"""

SIZES = (4, 1024, 16_384, 65_536, 262_144)
"""Lengths (float32 elements) of the single collectives that are timed. Heuristic: around the sizes
that whitening layers send.
"""

REPEATS = 15

_BACKENDS, _KERNELS = ("gloo:", "nccl:"), "nccl"
_BYTES = {"float": 4, "double": 8, "c10::Half": 2, "c10::BFloat16": 2}


def profiled_collectives(step: Callable[[], object]) -> list[Measurement]:
    """Collectives of one `step` as torch's profiler records them: `communication_calls`,
    `communication_bytes` given on this rank, and `communication_s`, the time in which at least one
    of them ran.

    The list is empty where the profiler's record cannot be read. NCCL queues its collectives and
    runs them later, so their time is that of NCCL's kernels, which includes waiting for other
    ranks. It is left out where the profiler saw no such kernel.
    """
    kernels = dist.get_backend() == "nccl"
    activities = [torch.profiler.ProfilerActivity.CPU] + (
        [torch.profiler.ProfilerActivity.CUDA] if kernels else []
    )
    with torch.profiler.profile(
        activities=activities, record_shapes=True, acc_events=True
    ) as profiler:
        step()
        if kernels:
            torch.cuda.synchronize()
    try:
        return collective_measurements(profiler.profiler.kineto_results.events(), kernels)
    except AttributeError:  # not part of torch's stable interface
        return []


def collective_measurements(events: Iterable[Any], kernels: bool) -> list[Measurement]:
    """The measurements of `profiled_collectives` from the profiler's `events`. `kernels` says that
    collectives run as kernels on a device.
    """
    host_events, device_events = [], []
    for event in events:
        (
            host_events if str(event.device_type()).rpartition(".")[2] == "CPU" else device_events
        ).append(event)
    calls = [event for event in host_events if event.name().startswith(_BACKENDS)]
    timed_events = (
        [
            event
            for event in device_events
            if event.name().startswith(_KERNELS) and not event.name().startswith(_BACKENDS)
        ]
        if kernels
        else calls
    )
    measurements = [
        Measurement("communication_calls", "1", (float(len(calls)),)),
        Measurement("communication_bytes", "B", (float(sum(map(_bytes, calls))),)),
    ]
    if calls and not timed_events:
        return measurements
    spans = [(event.start_ns(), event.start_ns() + event.duration_ns()) for event in timed_events]
    return [*measurements, Measurement("communication_s", "s", (union(spans) * 1e-9,))]


def _bytes(event) -> int:
    total = 0
    for shape, dtype in zip(event.shapes(), event.dtypes(), strict=False):
        if shape:
            total += torch.Size(shape).numel() * _BYTES.get(dtype, 4)
    return total


def exposed_communication(
    call: Callable[[], dict[str, float]],
    without_communication: Callable[[], AbstractContextManager],
) -> list[Measurement]:
    """Seconds of forward and backward passes of `call`, with communication (`joint_…`) and without
    (`alone_…`), in turn. The difference is communication that overlaps with no computation.
    """
    joint_s, alone_s = [], []
    for _ in range(PAIRS):
        joint_s.append(call()["forward_backward_s"])
        with without_communication():
            alone_s.append(call()["forward_backward_s"])
    return [
        Measurement("joint_forward_backward_s", "s", tuple(joint_s)),
        Measurement("alone_forward_backward_s", "s", tuple(alone_s)),
    ]


def timed_collectives(device: str) -> list[Measurement]:
    """Seconds of single collectives of `SIZES` elements among all ranks, which show latency and
    bandwidth.
    """
    measurements = []
    for kind in ("all_gather", "all_reduce"):
        sizes, times = [], []
        for length in SIZES:
            tensor = torch.ones(length, device=device)
            gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
            for repeat in range(REPEATS + 1):
                dist.barrier()
                started = time.perf_counter_ns()
                dist.all_gather(gathered, tensor) if kind == "all_gather" else dist.all_reduce(
                    tensor
                )
                if tensor.is_cuda:
                    torch.cuda.synchronize(tensor.device)
                if repeat:  # the first one sets up connections
                    sizes.append(tensor.nbytes)
                    times.append((time.perf_counter_ns() - started) * 1e-9)
        measurements += [
            Measurement(f"{kind}_bytes", "B", tuple(map(float, sizes))),
            Measurement(f"{kind}_s", "s", tuple(times)),
        ]
    return measurements
