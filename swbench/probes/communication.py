"""What a spread network sends in one step, how long that takes, and how much of it hides behind
computing. Never within timed rounds.
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
"""Steps with and without communication, in turn; each row of a table adds as many to what it
costs.
"""

SIZES = (4, 1024, 16_384, 65_536, 262_144)
"""Float32 numbers in the single collectives that are timed; heuristic, around what whitening layers
send.
"""

REPEATS = 15

_BACKENDS, _KERNELS = ("gloo:", "nccl:"), "nccl"
_BYTES = {"float": 4, "double": 8, "c10::Half": 2, "c10::BFloat16": 2}


def sent(step: Callable[[], object]) -> list[Measurement]:
    """Collectives of one `step`: how many, their bytes as given on this rank, and the time in which
    any of them was under way.

    As torch's profiler records them; nothing where its record cannot be read. NCCL's are queued and
    run later, so their time is that of its kernels, waiting for the other ranks included, and left
    out where the profiler saw none.
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
        return account(profiler.profiler.kineto_results.events(), kernels)
    except AttributeError:  # not part of torch's stable interface
        return []


def account(events: Iterable[Any], kernels: bool) -> list[Measurement]:
    """What `sent` says of the profiler's `events`; `kernels` if collectives run as kernels on a
    device.
    """
    hosted, placed = [], []
    for event in events:
        (hosted if str(event.device_type()).rpartition(".")[2] == "CPU" else placed).append(event)
    calls = [event for event in hosted if event.name().startswith(_BACKENDS)]
    running = (
        [
            event
            for event in placed
            if event.name().startswith(_KERNELS) and not event.name().startswith(_BACKENDS)
        ]
        if kernels
        else calls
    )
    found = [
        Measurement("communication_calls", "1", (float(len(calls)),)),
        Measurement("communication_bytes", "B", (float(sum(map(_bytes, calls))),)),
    ]
    if calls and not running:
        return found
    spans = [(event.start_ns(), event.start_ns() + event.duration_ns()) for event in running]
    return [*found, Measurement("communication_s", "s", (union(spans) * 1e-9,))]


def _bytes(event) -> int:
    total = 0
    for shape, dtype in zip(event.shapes(), event.dtypes(), strict=False):
        if shape:
            total += torch.Size(shape).numel() * _BYTES.get(dtype, 4)
    return total


def exposed(
    call: Callable[[], dict[str, float]], quiet: Callable[[], AbstractContextManager]
) -> list[Measurement]:
    """Forward and backward of `call` as it is and with nothing sent, in turn: the difference is
    communication that hides behind nothing.
    """
    joint, alone = [], []
    for _ in range(PAIRS):
        joint.append(call()["forward_backward_s"])
        with quiet():
            alone.append(call()["forward_backward_s"])
    return [
        Measurement("joint_forward_backward_s", "s", tuple(joint)),
        Measurement("alone_forward_backward_s", "s", tuple(alone)),
    ]


def collectives(device: str) -> list[Measurement]:
    """Seconds of single collectives of several sizes among all ranks: latency and bandwidth."""
    found = []
    for kind in ("all_gather", "all_reduce"):
        sizes, times = [], []
        for numbers in SIZES:
            own = torch.ones(numbers, device=device)
            parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
            for repeat in range(REPEATS + 1):
                dist.barrier()
                started = time.perf_counter_ns()
                dist.all_gather(parts, own) if kind == "all_gather" else dist.all_reduce(own)
                if own.is_cuda:
                    torch.cuda.synchronize(own.device)
                if repeat:  # the first one sets up connections
                    sizes.append(own.nbytes)
                    times.append((time.perf_counter_ns() - started) * 1e-9)
        found += [
            Measurement(f"{kind}_bytes", "B", tuple(map(float, sizes))),
            Measurement(f"{kind}_s", "s", tuple(times)),
        ]
    return found
