"""The map y = A x + b of a norm with constant statistics, as in eval mode, and folding it into the
convolution before it.
"""

import math

import torch
from torch import Tensor, nn

from swbench.norms.kernels.algebra import Parameters, mix_and_solve
from swbench.norms.layers import Whiten2d
from swbench.norms.precision import full_precision
from swbench.norms.statistics import Statistics
from swbench.norms.tensors import suggested
from swbench.solvers.choice import solver_for

BATCH_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm)


def reason_not_constant(norm: nn.Module) -> str | None:
    """The reason why the map of `norm` depends on its input; None if it does not."""
    if isinstance(norm, Whiten2d):
        if norm.recipe.uses_image:
            return f"{type(norm).__name__} takes the statistics of each image, in eval mode too"
        running_mean = norm.running_mean
    elif type(norm) in BATCH_NORMS:
        running_mean = norm.running_mean
    else:
        return f"{type(norm).__name__} is neither batch whitening nor batch normalisation"
    if norm.training:
        return "is in training mode, where it takes the statistics of its batch"
    return (
        None
        if running_mean is not None
        else "keeps no running statistics, and takes those of its batch"
    )


def constant_map(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """A (g, G, G) and b (g, G), in float64, of the map y = A x + b of `norm` in eval mode. G is 1
    for batch normalisation. W is computed by the solver of the layer, or its equivalent in torch.
    `reason_not_constant` says which norms have such a map.
    """
    with torch.no_grad():
        if not isinstance(norm, Whiten2d):
            return _batch_norm_map(norm)
        recipe, (parameters, running) = norm.recipe, norm._tensors()
        mean, cov = running.mean.squeeze(-1).double(), running.cov.double()
        solver, _ = solver_for(norm.solver, recipe.group, len(cov), cov.dtype, cov.device)
        parameters = Parameters(*(p if p is None else p.double() for p in parameters))
        with full_precision(cov):
            solved = mix_and_solve(
                recipe, solver.in_torch(), Statistics(None, None, mean, cov), parameters
            )
        return solved.a[0], solved.b[0]


def _batch_norm_map(norm: nn.Module) -> tuple[Tensor, Tensor]:
    a = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        a = a * norm.weight.double()
    b = -a * norm.running_mean.double()
    if norm.bias is not None:
        b = b + norm.bias.double()
    return a.view(-1, 1, 1), b.view(-1, 1)


def groups_of(conv: nn.Conv2d | nn.ConvTranspose2d, group: int) -> int:
    """The largest divisor of `conv.groups` that splits no group of `group` output channels."""
    return math.gcd(conv.groups, conv.out_channels // group)


def fold_into(conv: nn.Conv2d | nn.ConvTranspose2d, a: Tensor, b: Tensor, groups: int) -> None:
    """Fold y = A x + b, with A (g, G, G) and b (g, G) in float64, into `conv` before it, in place:
    weight A W and bias A c + b, computed in float64, in `groups` groups (`groups_of`).

    Its weight and bias are new parameters, so that modules that share the old ones keep them.
    """
    transposed = isinstance(conv, nn.ConvTranspose2d)
    with torch.no_grad():
        weight = (
            _swap_channels(conv.weight.double(), conv.groups)
            if transposed
            else conv.weight.double()
        )
        weight = _merge_groups(weight, conv.groups, groups)
        kernel = weight.shape[1:]
        weight = (a @ weight.reshape(*a.shape[:2], -1)).reshape(-1, *kernel)
        if conv.bias is not None:
            b = b + (a @ conv.bias.double().view(*b.shape, 1)).squeeze(-1)
        weight = _swap_channels(weight, groups) if transposed else weight
        like, requires_grad = conv.weight, conv.weight.requires_grad
        for name, value in (("weight", weight), ("bias", b.flatten())):
            value = value.to(like.dtype)
            if value.dim() == 4:
                value = value.contiguous(memory_format=suggested(like))
            conv.register_parameter(name, nn.Parameter(value, requires_grad=requires_grad))
    conv.groups = groups


def _swap_channels(weight: Tensor, groups: int) -> Tensor:
    """Convert the weight of a transposed convolution, (C_in, C_out/groups, …), to that of an
    ordinary one, (C_out, C_in/groups, …), or back.
    """
    return weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)


def _merge_groups(weight: Tensor, before: int, after: int) -> Tensor:
    """Convert a weight from `before` groups, (C_out, C_in/before, …), to `after` groups, with zeros
    between the groups that are joined.
    """
    ratio = before // after
    if ratio == 1:
        return weight
    outputs, inputs, *kernel = weight.shape
    parts = weight.view(after, ratio, outputs // before, inputs, *kernel)
    dense = parts.new_zeros(after, ratio, outputs // before, ratio, inputs, *kernel)
    for index in range(ratio):
        dense[:, index, :, index] = parts[:, index]
    return dense.view(outputs, ratio * inputs, *kernel)
