"""A whitening layer computed pass by pass, in closed form: three readings of a full tensor forward,
five backward.
"""

from functools import partial

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swbench.native import library
from swbench.norms import composed
from swbench.norms.context import Call, ParameterTensors, Running
from swbench.norms.kernels import algebra, packing
from swbench.norms.kernels.algebra import Gradients, Parameters, Solved
from swbench.norms.kernels.backend import Backend, FusedCall
from swbench.norms.kernels.passes import Passes
from swbench.norms.precision import full_precision
from swbench.norms.statistics import Statistics, merge, update_running
from swbench.norms.tensors import (
    check_running,
    concrete,
    concrete_in,
    on_one_device,
    statistics_dtype,
)


class PassBackend(Passes, Backend):
    """A backend made of passes; the small algebra is in torch unless overridden. The only kind of
    backend that takes a batch distributed over ranks.
    """

    def apply(self, call: Call, x: Tensor, parameters: ParameterTensors) -> Tensor:
        if torch.is_grad_enabled():
            return Whitening.apply(x, *parameters, self, call)
        return whiten(self, call, x, parameters)[0]

    def fused(self, call: Call, x: Tensor) -> FusedCall | None:
        return None

    def workspace_size(
        self, call: Call, images: int, channels: int, dtype: torch.dtype, device: str
    ) -> int:
        algebra.make_constants(call.recipe, dtype, device)
        return packing.size(self, call, images, channels, dtype, device)

    def forward(
        self, call: Call, x: Tensor, parameters: ParameterTensors, workspace: Tensor
    ) -> Tensor:
        y, shift, stats, _, solved = whiten(self, call, x, parameters)
        packing.pack(workspace, shift, stats, solved)
        return y

    def backward(self, call, dy, x, parameters, workspace, wants_dx):
        shift, stats, solved = packing.unpack(self, call, x, workspace)
        values = Parameters(*(p if p is None else p.to(workspace.dtype) for p in parameters))
        solved = algebra.with_mixture(call.recipe, stats, values, solved)
        return gradients(self, call, dy, x, shift, stats, values, solved, wants_dx)

    def mix_and_solve(self, recipe, solver, stats, parameters) -> Solved:
        return algebra.mix_and_solve(recipe, solver, stats, parameters)

    def small_gradients(
        self, recipe, solver, stats, parameters, solved, m, s, shift, pixels, reduce=None
    ) -> Gradients:
        return algebra.small_gradients(
            recipe, solver, stats, parameters, solved, m, s, shift, pixels, reduce
        )


def shift_of(x: Tensor, dtype: torch.dtype) -> Tensor:
    """A cheap value near the mean of every channel of every image, (N, C): the central pixel.

    Not a corner: there a convolution has seen its zero padding, and the value may be many standard
    deviations from the mean. And not a pixel of another image, which may be as far away, or not
    finite.
    """
    return x[:, :, x.shape[2] // 2, x.shape[3] // 2].to(dtype).contiguous()


def gather(passes: Passes, call: Call, x: Tensor, shift: Tensor) -> Statistics:
    """The statistics that the recipe mixes. In training, batch statistics are merged from the
    images and over ranks, and the running statistics are updated.
    """
    recipe, running = call.recipe, call.running
    if running is not None and not call.training:
        # Copies, because a training call may update the running statistics before the backward pass
        # reads the saved ones.
        constants = (
            running.mean.squeeze(-1).to(shift.dtype, copy=True),
            running.cov.to(shift.dtype, copy=True),
        )
        if not recipe.uses_image:
            return Statistics(None, None, *constants)
        return Statistics(*passes.moments(x, shift, recipe.group), *constants)
    mean, cov = passes.moments(x, shift, recipe.group)
    if running is None:
        return Statistics(mean, cov)
    batch, share = merge(mean, cov), 1 / x.shape[0]
    if call.ranks is None:
        update_running(*running, *batch)
        return Statistics(mean, cov, *batch, share, single_image=x.shape[0] == 1)
    batch_mean, batch_cov, rank_share, counted = call.ranks.gather(
        *batch, x.shape[0] * x.shape[2] * x.shape[3]
    )
    update_running(*running, batch_mean, batch_cov, counted)
    return Statistics(mean, cov, batch_mean, batch_cov, share, rank_share=rank_share)


def whiten(
    passes: Passes, call: Call, x: Tensor, parameters: ParameterTensors
) -> tuple[Tensor, Tensor, Statistics, Parameters, Solved]:
    """Compute y, and what the backward pass needs besides x: the shift, the statistics, the
    `parameters` in their dtype, and the results of the solve.
    """
    dtype, running = statistics_dtype(x), call.running[:2] if call.running else ()
    if running:
        check_running(*running, x.shape[1], call.recipe.group)
    on_one_device(x, (*parameters, *running))
    values = Parameters(*concrete_in(parameters, dtype))
    with full_precision(x):
        shift = shift_of(x, dtype)
        stats = gather(passes, call, x, shift)
        solved = passes.mix_and_solve(call.recipe, call.solver, stats, values)
        return passes.affine(x, solved.a, solved.b), shift, stats, values, solved


def gradients(
    passes: Passes,
    call: Call,
    dy: Tensor,
    x: Tensor,
    shift: Tensor,
    stats: Statistics,
    parameters: Parameters,
    solved: Solved,
    wants_dx: bool = True,
) -> tuple[Tensor | None, ...]:
    """The gradients of x (None unless `wants_dx`) and of the four parameters."""
    reduce = None if call.ranks is None else partial(call.ranks.sum, rank_share=stats.rank_share)
    recipe, dy = call.recipe, concrete(dy)
    dy = dy.contiguous() if x.is_contiguous() else dy.contiguous(memory_format=torch.channels_last)
    with full_precision(x):
        m, s = passes.products(dy, x, shift, recipe.group)
        grads = passes.small_gradients(
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
                dx = passes.affine(dy, at, torch.zeros_like(solved.b))
            else:
                dx = passes.combine(dy, x, at, grads.b, grads.c)
    return dx, *grads[2:]


class Whitening(torch.autograd.Function):
    """y = γ (Σ̂ + εI)^(-1/2) (x − μ̂) + β. Saves x and G×G matrices. Differentiable any number
    of times, over ranks once.
    """

    @staticmethod
    def forward(ctx, x, gamma, beta, mean_logits, cov_logits, passes: Passes, call: Call) -> Tensor:
        y, shift, stats, parameters, solved = whiten(
            passes, call, x, (gamma, beta, mean_logits, cov_logits)
        )
        ctx.passes, ctx.call, ctx.share, ctx.single_image = (
            passes,
            call,
            stats.share,
            stats.single_image,
        )
        ctx.parameters = gamma, beta, mean_logits, cov_logits
        ctx.solver_count = len(solved.saved)
        ctx.save_for_backward(
            x,
            shift,
            *stats[:4],
            stats.rank_share,
            *parameters,
            *solved[:4],
            *solved.saved,
            *solved.mixed,
        )
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        if torch.is_grad_enabled() or not library.has_memory(dy):
            return (
                _once_differentiable_backward(ctx, dy) if ctx.call.ranks else _with_graph(ctx, dy)
            )
        return _backward(ctx, dy)


def _backward(ctx, dy: Tensor):
    saved = ctx.saved_tensors  # a second access is an error with activation checkpointing
    x, shift, *means_and_covs, rank_share = saved[:7]
    rest, count = saved[7:], 8 + ctx.solver_count
    stats = Statistics(*means_and_covs, ctx.share, ctx.single_image, rank_share)
    parameters = Parameters(*rest[:4])
    solved = Solved(*rest[4:8], tuple(rest[8:count]), tuple(rest[count:]))
    wants_dx = ctx.needs_input_grad[0]
    return (
        *gradients(ctx.passes, ctx.call, dy, x, shift, stats, parameters, solved, wants_dx),
        None,
        None,
    )


_once_differentiable_backward = once_differentiable(_backward)


def _with_graph(ctx, dy: Tensor):
    saved, call = ctx.saved_tensors, ctx.call
    x, _, _, _, mean, cov = saved[:6]
    values = saved[7:11]
    constant = call.running is not None and not call.training
    running = Running(mean.unsqueeze(-1), cov, 1.0) if constant else None
    grads = composed.gradients(
        call._replace(running=running), (x, *ctx.parameters), values, ctx.needs_input_grad[:5], dy
    )
    return *grads, None, None


class EmptyRank(torch.autograd.Function):
    """`Whitening` for a rank without images of the batch: it takes part in the communication, and
    its gradients are zero.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gamma, beta, mean_logits, cov_logits, call: Call) -> Tensor:
        groups, group = x.shape[1] // call.recipe.group, call.recipe.group
        if call.running is not None:
            check_running(*call.running[:2], x.shape[1], group)
        ctx.call, ctx.shapes = call, ((groups, group), (groups, group, group))
        ctx.save_for_backward(x, gamma, beta, mean_logits, cov_logits)
        if call.ranks is not None:
            mean, cov = (x.new_zeros(shape, dtype=statistics_dtype(x)) for shape in ctx.shapes)
            mean, cov, _, counted = call.ranks.gather(mean, cov, 0)
            update_running(*call.running, mean, cov, counted)
        return torch.empty_like(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor):
        x, *parameters = ctx.saved_tensors
        if ctx.call.ranks is not None:
            d_mean, d_cov = (x.new_zeros(shape, dtype=statistics_dtype(x)) for shape in ctx.shapes)
            ctx.call.ranks.sum(d_mean, d_cov, d_mean.new_zeros(()))
        return (
            torch.empty_like(x),
            *(p if p is None else torch.zeros_like(p) for p in parameters),
            None,
        )
