"""Profiling of one case in this process: pairs of an unprofiled and a profiled call, broken down by
layer and operator.
"""

import gc
import platform
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from swbench.case import TRAIN, Case
from swbench.clock import HostStopwatch
from swbench.errors import DeviceError
from swbench.gc_control import gc_disabled
from swbench.machine import hardware
from swbench.probes.network import NetworkWorkload
from swbench.probes.precision import AMP, element_type
from swbench.probes.workload import Unsupported
from swbench.profile import operators
from swbench.profile.annotations import PHASE, annotated, kind_of, profiled_modules
from swbench.profile.attribution import UNEVEN, Breakdown, break_down, parts_of
from swbench.profile.calibration import calibrate, higher_rates
from swbench.profile.types import (
    BACKWARD,
    FORWARD,
    NORM,
    REMAINDER,
    Iteration,
    Layer,
    Part,
    Profile,
    Roof,
)
from swbench.profile.work import work_by_layer

WARM_UP_CALLS = 3
UNEVEN_SHARE = 0.05
"""Share of the time that may be uneven between calls without a remark. Heuristic: about that of an
idle machine.
"""


class ProfiledWorkload(NetworkWorkload):
    """The same network, inputs and cotangents that a run of `case` times, with each pass callable
    by itself.

    Raises Unsupported where the case does not run one operation at a time, DeviceError where its
    device is missing.
    """

    def __init__(self, case: Case) -> None:
        if case.device != "cpu" and not torch.cuda.is_available():
            raise DeviceError("no CUDA device is available to torch here; use --device cpu")
        if case.mode != "eager":
            raise Unsupported(
                f"mode {case.mode!r} runs more than one operation at a time; profile "
                "with --mode eager"
            )
        if case.phase != TRAIN:
            raise Unsupported(
                f"a profile is of a training step, and phase {case.phase} has no backward pass; "
                "profile with --phase train"
            )
        if case.dtype.startswith(AMP):
            raise Unsupported(
                "a profile counts the bytes of float32 tensors, which autocast narrows; profile "
                f"with --dtype {case.dtype.removeprefix(AMP)}"
            )
        if case.device == "cpu" and case.threads:
            torch.set_num_threads(case.threads)
        super().__init__(case, HostStopwatch())
        self.device, self.dtype = torch.device(case.device), element_type(case.dtype)

    @property
    def model(self) -> nn.Module:
        """The network, in training mode."""
        return self._model

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The network's inputs."""
        return self._inputs

    def backward(self, output: Any) -> None:
        """The backward pass from the cotangents of `output`."""
        self._step.backward(output)

    def wait(self) -> None:
        """Wait until the device has finished all queued work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measure(
    case: Case,
    iterations: int,
    trace: Path | None = None,
    calibration: Callable[..., Roof] = calibrate,
) -> Profile:
    """The profile of `case` from the quicker half of `iterations` profiled calls, each after an
    unprofiled call. The timeline of the last one is written to `trace`, if given.

    It needs a process of its own, with the case's threads in its environment, which
    `launch.profile_case` provides.
    """
    workload = ProfiledWorkload(case)
    layers = profiled_modules(workload.model)
    kinds = {path: kind_of(module) for path, module in layers.items()}
    for _ in range(WARM_UP_CALLS):
        _call(workload)
    roof = calibration(workload.device, workload.dtype)
    pairs: list[Iteration] = []
    breakdowns: list[Breakdown] = []
    _profile_call(workload)  # the profiler's own first time
    gc.collect()
    with gc_disabled():
        for index in range(iterations):
            unprofiled = _call(workload)
            events = _profile_call(workload, trace if index == iterations - 1 else None)
            breakdowns.append(break_down(events, kinds, workload.device.type))
            total_s = breakdowns[-1].total_s
            pairs.append(
                Iteration(
                    forward_s=total_s[FORWARD],
                    backward_s=total_s[BACKWARD],
                    plain_forward_s=unprofiled[0],
                    plain_backward_s=unprofiled[1],
                )
            )
    roof = higher_rates(roof, calibration(workload.device, workload.dtype))
    used_calls = quicker_half([iteration.forward_s + iteration.backward_s for iteration in pairs])
    parts = parts_of([breakdowns[i] for i in used_calls])
    return Profile(
        case=case,
        iterations=tuple(
            replace(iteration, used=i in used_calls) for i, iteration in enumerate(pairs)
        ),
        layers=_layers(workload, layers, kinds, parts),
        roof=roof,
        chosen=workload.chosen,
        environment=_environment(workload),
        remarks=remarks(kinds, parts),
    )


def quicker_half(seconds: list[float]) -> frozenset[int]:
    """The positions of the quicker half, at least one.

    A profile shows the composition of a call, not the time of calls. Calls that other programs
    interrupted say least about it.
    """
    ranked = sorted(range(len(seconds)), key=seconds.__getitem__)
    return frozenset(ranked[: (len(seconds) + 1) // 2])


def _call(workload: ProfiledWorkload) -> tuple[float, float]:
    """One call; returns the seconds of (forward, backward)."""
    workload.model.zero_grad(set_to_none=True)
    workload.wait()
    start = perf_counter()
    with record_function(PHASE + FORWARD):
        y = workload.model(*workload.inputs)
        workload.wait()
    middle = perf_counter()
    with record_function(PHASE + BACKWARD):
        workload.backward(y)
        workload.wait()
    return middle - start, perf_counter() - middle


def _profile_call(workload: ProfiledWorkload, trace: Path | None = None) -> list:
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (workload.device.type == "cuda")
    with annotated(workload.model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch versions differ in what the profiler deprecates
        with profile(activities=activities, acc_events=True) as profiler:
            with record_function("first"):
                pass  # the first range of a session pays for its buffers
            _call(workload)
        if trace is not None:
            profiler.export_chrome_trace(str(trace))
        return list(profiler.events())


def _layers(
    workload: ProfiledWorkload,
    layers: dict,
    kinds: dict[str, str],
    parts: dict[str, tuple[Part, ...]],
) -> tuple[Layer, ...]:
    work, paper = work_by_layer(workload.model, workload.inputs, layers)
    attributed = [
        Layer(
            path=path,
            kind=kinds[path],
            type=type(module).__name__,
            parts=parts.get(path, ()),
            work=work.get(path, ()),
            paper_flops=paper.get(path),
        )
        for path, module in layers.items()
        if path in parts
    ]
    return (
        *attributed,
        *(
            Layer(path=path, kind=REMAINDER, parts=layer_parts)
            for path, layer_parts in parts.items()
            if path not in layers
        ),
    )


def _environment(workload: ProfiledWorkload) -> dict[str, str]:
    on_gpu = workload.device.type == "cuda"
    device = (
        torch.cuda.get_device_name(workload.device)
        if on_gpu
        else hardware.processor()["model"] or platform.machine()
    )
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": device,
        "threads": str(torch.get_num_threads()),
    }


def remarks(kinds: dict[str, str], parts: dict[str, tuple[Part, ...]]) -> tuple[str, ...]:
    """Remarks for the reader: a solve that is part of the algebra around it, and calls that differ
    too much.
    """
    lines = []
    norm_operators = {
        part.operator
        for path, layer_parts in parts.items()
        if kinds.get(path) == NORM
        for part in layer_parts
    }
    if operators.ALGEBRA in norm_operators and operators.SOLVE not in norm_operators:
        lines.append(
            "The backend solves inside its small algebra, so `norm: algebra` holds the solve too."
        )
    share = sum(part.seconds for part in parts[UNEVEN]) / sum(
        part.seconds for layer_parts in parts.values() for part in layer_parts
    )
    if share > UNEVEN_SHARE:
        lines.append(
            f"BUSY: {share:.0%} of the time is uneven between calls, so the machine was "
            "shared; profile again when it is quieter, or with more iterations."
        )
    return tuple(lines)
