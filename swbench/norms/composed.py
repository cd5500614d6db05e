"""A whitening layer composed of out-of-place torch operations, for uses that the kernels of a
backend cannot serve.

Traces and ONNX exports record these operations (`traced.py`). Forward-mode differentiation and the
transforms of `torch.func` go through them. Autograd differentiates them where a gradient is itself
differentiated (`gradients`). An ordinary call does not use this file.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from swbench.norms.context import Call, ParameterTensors, Running
from swbench.norms.kernels import algebra
from swbench.norms.kernels.algebra import Parameters
from swbench.norms.precision import full_precision
from swbench.norms.statistics import Statistics, update_running
from swbench.norms.tensors import statistics_dtype
from swbench.solvers.derivatives import with_graph

Solve = Callable[[Tensor], Tensor]
"""A function from Σ to W, both (B, G, G)."""


def composed(call: Call, solve: Solve, x: Tensor, parameters: ParameterTensors) -> Tensor:
    """Compute y at `x` (N, C, H, W), contiguous, with `solve` in place of the solver of the call.
    In training `call.running` is updated, if there is any.
    """
    recipe, groups = call.recipe, x.shape[1] // call.recipe.group
    dtype = statistics_dtype(x)
    with full_precision(x):
        values = Parameters(*(p if p is None else p.to(dtype) for p in parameters))
        pixels = x.to(dtype).reshape(x.shape[0], groups, recipe.group, -1)
        mean, cov, _ = algebra.mixture(recipe, _statistics(call, pixels), values)
        y = solve(cov.flatten(0, 1)).reshape(cov.shape) @ (pixels - mean.unsqueeze(-1))
        if values.gamma is not None:
            y = y * values.gamma.view(groups, recipe.group, 1)
        if values.beta is not None:
            y = y + values.beta.view(groups, recipe.group, 1)
        return y.reshape(x.shape).to(x.dtype)


def gradients(
    call: Call,
    inputs: Sequence[Tensor | None],
    values: Sequence[Tensor | None],
    wanted: Sequence[bool],
    dy: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradients of `inputs` (x and the four parameters), with a graph, for a call in one
    process. The running statistics of the call are constants.

    `values` are the values of the four parameters in the forward pass (None: as they are now). A
    parameter may have changed since, and derivatives are taken at the values of the forward pass.
    """

    def layer(x: Tensor, *parameters: Tensor | None) -> Tensor:
        values_at_forward = (
            p if value is None or p is None else p + (value.detach().to(p.dtype) - p.detach())
            for p, value in zip(parameters, values, strict=True)
        )
        return composed(call, call.solver.differentiable, x, tuple(values_at_forward))

    with full_precision(inputs[0]):
        return with_graph(layer, inputs, wanted, dy)


def _statistics(call: Call, values: Tensor) -> Statistics:
    """The statistics of `values` (N, g, G, pixels), by the same operations for every N, because a
    trace for one N is run for others. In training running statistics are updated.
    """
    recipe, running = call.recipe, call.running
    constant = running is not None and not call.training
    batch = (
        (running.mean.squeeze(-1).to(values.dtype), running.cov.to(values.dtype))
        if constant
        else (None, None)
    )
    if constant and not recipe.uses_image:
        return Statistics(None, None, *batch)
    shift = values.detach().mean(-1, keepdim=True)
    deviation = values - shift
    offset = deviation.mean(-1)
    mean = shift.squeeze(-1) + offset
    cov = deviation @ deviation.transpose(-2, -1) / values.shape[-1] - offset.unsqueeze(
        -1
    ) * offset.unsqueeze(-2)
    if recipe.uses_batch and not constant:
        batch_mean = mean.mean(0)
        mean_deviation = mean - batch_mean
        batch = (
            batch_mean,
            (cov + mean_deviation.unsqueeze(-1) * mean_deviation.unsqueeze(-2)).mean(0),
        )
        if running is not None:
            _update_running(running, *(value.detach() for value in batch))
    return Statistics(mean, cov, *batch)


def _update_running(running: Running, mean: Tensor, cov: Tensor) -> None:
    """Update `running`. Raises RuntimeError where `vmap` would give several new values for one
    running statistic, as `nn.BatchNorm2d` does.
    """
    is_batched = torch._C._functorch.is_batchedtensor
    if is_batched(mean) and not is_batched(running.mean):
        raise RuntimeError(
            "a whitening layer in training mode got a batch of inputs from vmap, but has one set "
            "of running statistics to update; call it in eval mode, make it with "
            "track_running_stats=False, or let vmap map the statistics too"
        )
    if not is_batched(running.mean):
        update_running(*running, mean, cov)
        return
    for running_stat, value in ((running.mean, mean.unsqueeze(-1)), (running.cov, cov)):
        running_stat.add_(
            (value - running_stat).to(running_stat.dtype), alpha=1 - running.momentum
        )  # vmap has no lerp_
