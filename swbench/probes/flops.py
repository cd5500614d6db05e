"""Counted costs of a network: FLOPs by every rule, the solver's part, parameters and activation
memory, all for one image.
"""

import dataclasses
from collections.abc import Mapping
from functools import lru_cache

import torch

from swbench import flops, models
from swbench.case import FOLDED, Case
from swbench.case import TRAIN as TRAIN_PHASE
from swbench.flops.recorder import EVAL, TRAIN, record
from swbench.flops.rule import Count
from swbench.flops.solver import solver_flops
from swbench.flops.trace import Trace
from swbench.models.folding import fold_norms
from swbench.probes.case_network import build_network, case_inputs
from swbench.probes.precision import element_type
from swbench.result import Measurement

FALLBACK = "eigh"
"""The solver that traces a network whose own solver cannot run without data, and that counts for
`auto`.
"""


def flops_measurements(
    case: Case, chosen: Mapping[str, str] | None = None
) -> tuple[list[Measurement], dict[str, str]]:
    """`flops_paper`, `flops_fvcore`, `flops_torch`, `flops_solver`, `parameters` and
    `peak_activation_bytes` of one image, and notes on them.

    The rules count an inference pass (eval mode). `flops_fvcore_training` and
    `flops_torch_training` count a training pass, where that differs. `peak_activation_bytes` are
    the bytes that autograd holds between the passes of a training step (`SavedTensors`).

    Batch, device and layout of the case do not matter. `chosen["solver"]`, if given, names the
    solver that `auto` chose. The notes, by metric, say which operations a rule leaves out. A figure
    without an operation that the paper's rule does not know is a lower bound.

    Raises OptionError for an image that is too small or a wrong number of layers, UnknownName for
    an unknown model, norm or solver.
    """
    solver = (chosen or {}).get("solver") or case.solver or FALLBACK
    network = dataclasses.replace(
        case,
        batch=1,
        device="cpu",
        mode="eager",
        layout="contiguous",
        threads=1,
        world=1,
        nodes=1,
        role="",
        phase=FOLDED if case.phase == FOLDED else TRAIN_PHASE,
        solver=solver,
    )
    measurements, notes = _count_case(network)
    return list(measurements), dict(notes)


@lru_cache(maxsize=256)
def _count_case(case: Case) -> tuple[tuple[Measurement, ...], tuple[tuple[str, str], ...]]:
    models.check_image(case.model, case.image)
    notes = {"flops_paper": "rule inferred from the printed tables"}
    eval_trace, train_trace, traced = _traces(case, notes)
    measurements = []
    for rule in flops.names():
        metric, counting = f"flops_{rule}", flops.get(rule)
        inference, training = counting.count(eval_trace), counting.count(train_trace)
        measurements.append(_measurement(metric, inference.total))
        if training.total != inference.total:
            measurements.append(_measurement(f"{metric}_training", training.total))
        if inference.at_least:
            left = inference.remainder.removeprefix("without ")
            notes[metric] = f"not counted: {left}, so the figure is a lower bound"
        if rule != "paper":
            notes[metric] = f"{inference.mode} mode{_uncounted_note(inference)}" + (
                f"; traced with {traced}" if traced != case.solver else ""
            )
    cost = 0.0
    # Whitening layers are those that declare a cost; each group of channels of an image has a
    # matrix.
    if matrices := sum(
        declared.shape[0] * declared.shape[1] // case.group for declared in train_trace.declared
    ):
        counted = FALLBACK if case.solver.partition(":")[0] == "auto" else case.solver
        cost = solver_flops(counted, case.group, matrices)
        notes["flops_solver"] = (
            f"{matrices} matrices of {case.group}x{case.group}, by the formula of {counted}"
        )
    measurements.append(_measurement("flops_solver", cost))
    measurements.append(_measurement("parameters", train_trace.parameters))
    measurements.append(_measurement("peak_activation_bytes", train_trace.saved_bytes, "B"))
    notes["peak_activation_bytes"] = (
        "held for the backward pass, by calculation; without parameters, gradients and temporaries"
    )
    return tuple(measurements), tuple(notes.items())


def _traces(case: Case, notes: dict[str, str]) -> tuple[Trace, Trace, str]:
    """The traces in eval and in train mode, and the solver they were taken with."""
    try:
        return *_record_traces(case, case.solver), case.solver
    except (NotImplementedError, RuntimeError) as problem:
        if case.norm == "bn" or case.solver == FALLBACK:
            raise
        notes["solver_trace"] = (
            f"{case.solver} cannot be traced without data ({str(problem).splitlines()[0][:80]})"
        )
        return *_record_traces(case, FALLBACK), FALLBACK


def _record_traces(case: Case, solver: str) -> tuple[Trace, Trace]:
    # folding needs computed matrices
    with torch.device("cpu" if case.phase == FOLDED else "meta"):
        net = build_network(case, solver).to(element_type(case.dtype))
    if case.phase == FOLDED:
        fold_norms(net.eval())
    given = case_inputs(case, torch.Generator())
    return record(net, given, EVAL), record(net, given, TRAIN)


def _measurement(metric: str, value: float, unit: str = "1") -> Measurement:
    return Measurement(metric, unit, (float(value),))


def _uncounted_note(count: Count) -> str:
    names = ", ".join(
        f"{name.removeprefix('aten::')} ×{times}" for name, times in sorted(count.uncounted.items())
    )
    return f"; leaves out {names}" if names else ""
