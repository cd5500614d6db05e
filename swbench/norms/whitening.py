"""Whitening as one closed-form autograd Function: three passes over the full tensor forward, five
backward.
"""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swbench.norms.kernels.algebra import Parameters, Solved
from swbench.norms.kernels.base import Kernels, abstract, concrete, statistics_dtype
from swbench.norms.precision import full_precision
from swbench.norms.ranks import Ranks
from swbench.norms.recipe import Recipe
from swbench.norms.statistics import Statistics, merge
from swbench.solvers.base import Solver


@dataclass(frozen=True, slots=True)
class Running:
    """Running batch statistics: `mean` (g, G, 1) and `cov` (g, G, G), and the share of the old
    value in an update.
    """

    mean: Tensor
    cov: Tensor
    momentum: float

    @property
    def plain(self) -> bool:
        """Whether C can read and write both where they are."""
        return all(
            one.dtype == torch.float32 and one.is_contiguous() and not abstract(one)
            for one in (self.mean, self.cov)
        )

    def is_of(self, buffers: dict[str, Tensor]) -> bool:
        """Whether these are the tensors that a layer has now; moved to another device or dtype it
        has others.
        """
        return self.mean is buffers.get("running_mean") and self.cov is buffers.get("running_cov")

    @property
    def laid(self) -> tuple:
        """What kernels take for granted of both from one call to the next. Not where they lie: a
        call asks for that anew.

        A tensor that stays the same object can be given another memory: `tensor.data = …`, `set_`,
        `resize_`, `swap_tensors`.
        """
        mean, cov = self.mean, self.cov
        return (
            mean.dtype,
            cov.dtype,
            mean.device,
            cov.device,
            mean.shape,
            cov.shape,
            mean.is_contiguous(),
            cov.is_contiguous(),
            abstract(mean),
            abstract(cov),
        )

    def update(self, mean: Tensor, cov: Tensor, counted: Tensor | None = None) -> None:
        """Move both towards the statistics of a batch, in place. Where `counted` () is false the
        batch was empty: nothing moves.
        """
        for buffer, value in ((self.mean, mean.unsqueeze(-1)), (self.cov, cov)):
            fresh = 1 - self.momentum
            buffer.lerp_(
                value.to(buffer.dtype),
                fresh if counted is None else counted.to(buffer.dtype) * fresh,
            )


@dataclass(frozen=True, slots=True)
class Call:
    """What one call of the layer needs besides tensors to differentiate.

    `running` is None where no batch statistics are used; `ranks` where they are those of this
    process alone, or constants.
    """

    recipe: Recipe
    solver: Solver
    kernels: Kernels
    running: Running | None
    training: bool
    ranks: Ranks | None = None


def shift_of(x: Tensor) -> Tensor:
    """A value near the mean of every channel of every image, (N, C), at no cost: the central pixel.

    Not the corner: there a convolution has seen its zero padding, and may be many standard
    deviations away from the mean. And not that of another image, which may be as far away, or not
    finite.
    """
    return x[:, :, x.shape[2] // 2, x.shape[3] // 2].to(statistics_dtype(x)).contiguous()


def gather(call: Call, x: Tensor, shift: Tensor) -> Statistics:
    """The statistics that the recipe mixes. In training the batch's are merged from those of its
    images, and kept as running ones.

    Where the batch is spread over ranks, theirs join here.
    """
    recipe, running = call.recipe, call.running
    if running is not None and not call.training:
        # Copies, for a training call may move the running statistics before the way back reads what
        # is saved.
        constants = (
            running.mean.squeeze(-1).to(shift.dtype, copy=True),
            running.cov.to(shift.dtype, copy=True),
        )
        if not recipe.uses_image:
            return Statistics(None, None, *constants)
        return Statistics(*call.kernels.moments(x, shift, recipe.group), *constants)
    mean, cov = call.kernels.moments(x, shift, recipe.group)
    if running is None:
        return Statistics(mean, cov)
    batch, share = merge(mean, cov), 1 / x.shape[0]
    if call.ranks is None:
        running.update(*batch)
        return Statistics(mean, cov, *batch, share, alone=x.shape[0] == 1)
    batch_mean, batch_cov, part, counted = call.ranks.gather(
        *batch, x.shape[0] * x.shape[2] * x.shape[3]
    )
    running.update(batch_mean, batch_cov, counted)
    return Statistics(mean, cov, batch_mean, batch_cov, share, part=part)


def there(
    call: Call, x: Tensor, given: tuple[Tensor | None, ...]
) -> tuple[Tensor, Tensor, Statistics, Parameters, Solved]:
    """y, and what the way back needs beside x: the shift, the statistics, the `given` parameters in
    their dtype, and what the solve left.
    """
    dtype = statistics_dtype(x)
    parameters = Parameters(*(p if p is None else concrete(p.to(dtype)) for p in given))
    with full_precision(x):
        shift = shift_of(x)
        stats = gather(call, x, shift)
        solved = call.kernels.mix_and_solve(call.recipe, call.solver, stats, parameters)
        return call.kernels.affine(x, solved.a, solved.b), shift, stats, parameters, solved


def back(
    call: Call,
    dy: Tensor,
    x: Tensor,
    shift: Tensor,
    stats: Statistics,
    parameters: Parameters,
    solved: Solved,
    wants_dx: bool = True,
):
    """The gradients of x (None if nobody `wants_dx`) and of the four parameters."""
    reduce = None if call.ranks is None else partial(call.ranks.sum, part=stats.part)
    kernels, recipe = call.kernels, call.recipe
    dy = concrete(dy)
    dy = dy.contiguous() if x.is_contiguous() else dy.contiguous(memory_format=torch.channels_last)
    with full_precision(x):
        m, s = kernels.products(dy, x, shift, recipe.group)
        grads = kernels.small_gradients(
            recipe,
            call.solver,
            stats,
            parameters,
            solved,
            m,
            s,
            shift,
            x.shape[2] * x.shape[3],
            reduce,
        )
        dx = None
        if wants_dx:
            at = solved.a.mT
            if grads.b is None:
                dx = kernels.affine(dy, at, torch.zeros_like(solved.b))
            else:
                dx = kernels.combine(dy, x, at, grads.b, grads.c)
    return dx, *grads[2:]


class Whitening(torch.autograd.Function):
    """y = γ (Σ̂ + εI)^(-1/2) (x − μ̂) + β. Saves x and matrices of G×G; differentiable once."""

    @staticmethod
    def forward(ctx, x: Tensor, gamma, beta, mean_logits, cov_logits, call: Call) -> Tensor:
        y, shift, stats, parameters, solved = there(call, x, (gamma, beta, mean_logits, cov_logits))
        ctx.call, ctx.share, ctx.alone, ctx.solver_count = (
            call,
            stats.share,
            stats.alone,
            len(solved.saved),
        )
        ctx.save_for_backward(
            x, shift, *stats[:4], stats.part, *parameters, *solved[:4], *solved.saved, *solved.mixed
        )
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        x, shift, *means_and_covs, part = ctx.saved_tensors[:7]
        rest, count = ctx.saved_tensors[7:], 8 + ctx.solver_count
        stats = Statistics(*means_and_covs, ctx.share, ctx.alone, part)
        solved = Solved(*rest[4:8], tuple(rest[8:count]), tuple(rest[count:]))
        return *back(
            ctx.call, dy, x, shift, stats, Parameters(*rest[:4]), solved, ctx.needs_input_grad[0]
        ), None
