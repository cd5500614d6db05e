"""A whitening layer in torch operations that make new tensors, for traces and exports to ONNX;
kernels that write through addresses leave no trace.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from swbench.norms.exported import exported, exporting
from swbench.norms.kernels import algebra
from swbench.norms.kernels.algebra import Parameters
from swbench.norms.kernels.base import statistics_dtype
from swbench.norms.precision import full_precision
from swbench.norms.recipe import basis
from swbench.norms.statistics import Statistics
from swbench.solvers.base import Solver
from swbench.solvers.tracing import tracing

if TYPE_CHECKING:
    from swbench.norms.layers import Whiten2d


def record(layer: "Whiten2d", x: Tensor) -> Tensor:
    """`layer` at `x` (N, C, H, W), for any number of images and pixels, and differentiable by
    autograd through every operation.

    Statistics, solver and running statistics are those of the layer; a solver in C or Triton is
    replaced by the same method in torch. What a trace cannot hold: the exclusion of autocast and
    TF32, which are settings and no operations, and the layer's own gradient. Autograd's gradient of
    a decomposition is not finite, or mostly rounding, where eigenvalues meet; to train a trace
    choose `polar` or `newton`. ONNX has no decompositions: an export holds `polar` in place of any
    exact solver, and no other. Raises ValueError for any other shape and for a solver that is not
    exact in an export, RuntimeError for a layer that spreads its batch over ranks in training.
    """
    recipe, groups = layer.recipe, layer.num_features // layer.num_pergroup
    if layer.process_group is not None and layer.training and recipe.uses_batch:
        raise RuntimeError(
            "a whitening layer with a process group communicates in training, "
            "which torch.jit.trace cannot record; trace it in eval mode"
        )
    dtype = statistics_dtype(x)
    # a shape is numbers here; and constants that are kept are made once, not in every run of the
    # trace
    with _outside_of_the_trace():
        last = not layer.checked(x).is_contiguous()
        asked, name = exported(layer) if exporting() else layer.solver_for(x)
        for sources in (1, 2):
            basis(recipe, sources, torch.empty(0, dtype=dtype, device=x.device))
        solver = asked.in_torch()
        solver.forward(torch.eye(recipe.group, dtype=dtype, device=x.device).unsqueeze(0))
    layer.choice = name if solver is asked else solver.name, "torch"
    given = (layer.weight, layer.bias, *layer._logits())
    with full_precision(x):
        parameters = Parameters(*(p if p is None else p.to(dtype) for p in given))
        values = x.to(dtype).reshape(x.shape[0], groups, recipe.group, -1)
        stats = _statistics(layer, values)
        mean, cov, _ = algebra.mixture(recipe, stats, parameters)
        y = _solved(solver, cov) @ (values - mean.unsqueeze(-1))
        if parameters.gamma is not None:
            y = y * parameters.gamma.view(groups, recipe.group, 1)
        if parameters.beta is not None:
            y = y + parameters.beta.view(groups, recipe.group, 1)
        y = y.reshape(x.shape).to(x.dtype)
    return y.contiguous(memory_format=torch.channels_last) if last else y


@contextmanager
def _outside_of_the_trace() -> Iterator[None]:
    state = tracing()
    torch._C._set_tracing_state(None)
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)


def _statistics(layer: "Whiten2d", values: Tensor) -> Statistics:
    """Those of `values` (N, g, G, pixels), whatever N is: the number that is recorded must not
    decide what is. In training the running ones move.
    """
    recipe, running = layer.recipe, layer.recipe.uses_batch and not layer.training
    batch = (
        (layer.running_mean.squeeze(-1).to(values.dtype), layer.running_cov.to(values.dtype))
        if running
        else (None, None)
    )
    if running and not recipe.uses_image:
        return Statistics(None, None, *batch)
    shift = values.detach().mean(-1, keepdim=True)
    apart = values - shift
    level = apart.mean(-1)
    mean = shift.squeeze(-1) + level
    cov = apart @ apart.transpose(-2, -1) / values.shape[-1] - level.unsqueeze(
        -1
    ) * level.unsqueeze(-2)
    if recipe.uses_batch and layer.training:
        batch_mean = mean.mean(0)
        away = mean - batch_mean
        batch = batch_mean, (cov + away.unsqueeze(-1) * away.unsqueeze(-2)).mean(0)
        for buffer, value in (
            (layer.running_mean, batch_mean.unsqueeze(-1)),
            (layer.running_cov, batch[1]),
        ):
            buffer.lerp_(value.detach().to(buffer.dtype), 1 - layer.momentum)
    return Statistics(mean, cov, *batch)


def _solved(solver: Solver, cov: Tensor) -> Tensor:
    """W for `cov` (n, g, G, G). A solver may take G for a number, of which a trace warns that it
    becomes a constant: it is one of the layer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        w, _ = solver.forward(cov.flatten(0, 1))
    return w.reshape(cov.shape)
