"""A whitening layer composed of torch operations that make new tensors: what is recorded where the
passes of a backend leave no record.

A trace and an ONNX export hold these operations (`traced.py`); forward-mode differentiation and the
transforms of `torch.func` take them apart; and a gradient that is to be differentiated is made by
autograd from them (`gradients`). The ordinary call never comes here.
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
"""W of (B, G, G)."""


def composed(call: Call, solve: Solve, x: Tensor, parameters: ParameterTensors) -> Tensor:
    """Y at `x` (N, C, H, W), contiguous, for any number of images and pixels; `solve` stands for
    the solver of the call. In training `call.running` moves, if there is any.
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
    """The gradients of x and the four parameters, `inputs`, with a graph: those of a call whose
    batch is here as a whole. Running statistics of the call are constants.

    `values` are those that the four parameters had in the forward pass (None: what they are now);
    a parameter may have been changed since, and derivatives are taken where the function was.
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
    """Those of `values` (N, g, G, pixels), whatever N is: the number that is recorded must not
    decide what is. In training the running ones move.
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
    """Raises RuntimeError where there would be as many new running statistics as a `vmap` has
    entries, as `nn.BatchNorm2d` does.
    """
    is_batched = torch._C._functorch.is_batchedtensor
    if is_batched(mean) and not is_batched(running.mean):
        raise RuntimeError(
            "a whitening layer in training mode got a batch of inputs from vmap, and has one set "
            "of running statistics to move; call it in eval mode, make it with "
            "track_running_stats=False, or let vmap map the statistics too"
        )
    if not is_batched(running.mean):
        update_running(*running, mean, cov)
        return
    for running_stat, value in ((running.mean, mean.unsqueeze(-1)), (running.cov, cov)):
        running_stat.add_(
            (value - running_stat).to(running_stat.dtype), alpha=1 - running.momentum
        )  # vmap has no lerp_
