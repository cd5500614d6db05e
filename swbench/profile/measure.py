"""Profiling one case in this process: pairs of an unprofiled and a profiled call, broken down and
averaged.
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
from swbench.profile.attribution import UNEVEN, Breakdown, break_down, parts_of
from swbench.profile.marks import PHASE, kind_of, marked, rows
from swbench.profile.roof import calibrate, higher
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
"""Share of the time that may be uneven between calls without a remark; heuristic, about what an
idle machine shows.
"""


class Subject(NetworkWorkload):
    """The very network, input and cotangent that a run of `case` times, called piecewise.

    Raises Unsupported where the case is not run one operation at a time, DeviceError without its
    device.
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
                "under autocast a profile would take tensors for float32 that are not; profile "
                f"with --dtype {case.dtype.removeprefix(AMP)}"
            )
        if case.device == "cpu" and case.threads:
            torch.set_num_threads(case.threads)
        super().__init__(case, HostStopwatch())
        self.device, self.dtype = torch.device(case.device), element_type(case.dtype)

    @property
    def model(self) -> nn.Module:
        """In training mode."""
        return self._model

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What it is called with."""
        return self._inputs

    def backward(self, output: Any) -> None:
        """The backward pass from the cotangents of `output`."""
        self._step.backward(output)

    def wait(self) -> None:
        """Until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def measure(
    case: Case,
    iterations: int,
    trace: Path | None = None,
    calibration: Callable[..., Roof] = calibrate,
) -> Profile:
    """The profile of `case` from the quicker half of `iterations` profiled calls, each next to an
    unprofiled one; `trace` gets the timeline of the last.

    Meant for a process of its own, with the threads of the case in its environment:
    `launch.profile_case` sees to that.
    """
    subject = Subject(case)
    layers = rows(subject.model)
    kinds = {path: kind_of(module) for path, module in layers.items()}
    for _ in range(WARM_UP_CALLS):
        _call(subject)
    roof = calibration(subject.device, subject.dtype)
    pairs: list[Iteration] = []
    breakdowns: list[Breakdown] = []
    _profiled(subject)  # the profiler's own first time
    gc.collect()
    with gc_disabled():
        for index in range(iterations):
            plain = _call(subject)
            events = _profiled(subject, trace if index == iterations - 1 else None)
            breakdowns.append(break_down(events, kinds, subject.device.type))
            total_s = breakdowns[-1].total_s
            pairs.append(
                Iteration(
                    forward_s=total_s[FORWARD],
                    backward_s=total_s[BACKWARD],
                    plain_forward_s=plain[0],
                    plain_backward_s=plain[1],
                )
            )
    roof = higher(roof, calibration(subject.device, subject.dtype))
    used = quicker_half([one.forward_s + one.backward_s for one in pairs])
    parts = parts_of([breakdowns[i] for i in used])
    return Profile(
        case=case,
        iterations=tuple(replace(one, used=i in used) for i, one in enumerate(pairs)),
        layers=_layers(subject, layers, kinds, parts),
        roof=roof,
        chosen=subject.chosen,
        environment=_environment(subject),
        remarks=remarks(kinds, parts),
    )


def quicker_half(seconds: list[float]) -> frozenset[int]:
    """The positions of the quicker half, at least one.

    A profile says how a call is made up, not how long calls take: the calls that other programs
    broke into say least about it.
    """
    ranked = sorted(range(len(seconds)), key=seconds.__getitem__)
    return frozenset(ranked[: (len(seconds) + 1) // 2])


def _call(subject: Subject) -> tuple[float, float]:
    """One call: seconds forward and backward."""
    subject.model.zero_grad(set_to_none=True)
    subject.wait()
    start = perf_counter()
    with record_function(PHASE + FORWARD):
        y = subject.model(*subject.inputs)
        subject.wait()
    middle = perf_counter()
    with record_function(PHASE + BACKWARD):
        subject.backward(y)
        subject.wait()
    return middle - start, perf_counter() - middle


def _profiled(subject: Subject, trace: Path | None = None) -> list:
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (subject.device.type == "cuda")
    with marked(subject.model), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch versions differ in what the profiler deprecates
        with profile(activities=activities, acc_events=True) as profiler:
            with record_function("first"):
                pass  # the first range of a session pays for its buffers
            _call(subject)
        if trace is not None:
            profiler.export_chrome_trace(str(trace))
        return list(profiler.events())


def _layers(
    subject: Subject, layers: dict, kinds: dict[str, str], parts: dict[str, tuple[Part, ...]]
) -> tuple[Layer, ...]:
    work, paper = work_by_layer(subject.model, subject.inputs, layers)
    found = [
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
        *found,
        *(
            Layer(path=path, kind=REMAINDER, parts=some)
            for path, some in parts.items()
            if path not in layers
        ),
    )


def _environment(subject: Subject) -> dict[str, str]:
    on_gpu = subject.device.type == "cuda"
    device = (
        torch.cuda.get_device_name(subject.device)
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
    """What a reader must know: a solve that cannot be told from the algebra around it, and calls
    that were too unlike.
    """
    found = []
    norms = {
        part.operator for path, some in parts.items() if kinds.get(path) == NORM for part in some
    }
    if operators.ALGEBRA in norms and operators.SOLVE not in norms:
        found.append(
            "The backend solves inside its small algebra, so `norm: algebra` holds the solve too."
        )
    share = sum(part.seconds for part in parts[UNEVEN]) / sum(
        part.seconds for some in parts.values() for part in some
    )
    if share > UNEVEN_SHARE:
        found.append(
            f"BUSY: {share:.0%} of the time is uneven between calls, so the machine was "
            "shared; profile again when it is quieter, or with more iterations."
        )
    return tuple(found)
