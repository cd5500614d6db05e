"""A whitening layer in Triton: as one autograd Function, and forward and backward without it."""

import torch
from torch import Tensor

from swbench.native import library
from swbench.norms import composed
from swbench.norms.context import Call, Given, Running
from swbench.norms.kernels.triton_kernels.fused_plan import Whole, steps_of, whole_of
from swbench.norms.kernels.triton_kernels.layer_config import Key
from swbench.norms.kernels.triton_kernels.workspace import ALIGNED
from swbench.norms.tensors import check_running, concrete, on_one_device, sized
from swbench.solvers.triton_kernels.polar import table_on


def key_of(call: Call, x: Tensor, given: Given) -> Key:
    """What the launches for `x` and the parameters depend on. Raises RuntimeError where they are
    not all on one device, ValueError for a wrong size.
    """
    running = call.running
    sized(given, x.shape[1], len(call.recipe.statistics))
    if running is not None:
        check_running(*running[:2], x.shape[1], call.recipe.group)
    tensors = (x, *given, *((None, None) if running is None else (running.mean, running.cov)))
    on_one_device(x, tensors)
    dtypes = tuple(None if t is None else t.dtype for t in tensors)
    momentum = 0.0 if running is None else running.momentum
    return Key(
        call.recipe,
        call.solver,
        tuple(x.shape),
        not x.is_contiguous(),
        call.training,
        momentum,
        x.device,
        dtypes,
    )


def in_row(given: Given) -> Given:
    """Parameters as kernels read them."""
    return tuple(p if p is None else concrete(p).contiguous() for p in given)


def run_forward(
    whole: Whole, running: Running | None, x: Tensor, given: Given, kept: Tensor
) -> Tensor:
    """y; `kept` is filled with the small matrices that the way back needs. In training the running
    statistics move, if there are any.
    """
    y = torch.empty_like(x)
    gamma, beta, mean_logits, cov_logits = given
    mean, cov = (None, None) if running is None else (running.mean, running.cov)
    tensors = {
        "x": x,
        "y": y,
        "gamma": gamma,
        "beta": beta,
        "mean_logits": mean_logits,
        "cov_logits": cov_logits,
    }
    tensors |= {"running_mean": mean, "running_cov": cov, "coefficients": whole.coefficients(False)}
    whole.run(
        whole.forward,
        tensors,
        (whole.form.kept, kept),
        (whole.form.there, whole.form.there.allocate(x)),
    )
    return y


def run_backward(
    whole: Whole, x: Tensor, dy: Tensor, gamma: Tensor | None, kept: Tensor, wanted: bool = True
) -> tuple[Tensor | None, ...]:
    """Gradients: dx (None unless `wanted`), those of γ, β and both sets of logits, None where there
    is no such parameter.
    """
    layout = torch.channels_last if whole.key.last else torch.contiguous_format
    # hooks may unpack x in another layout (offloading does), and dy may be a view of the opposite
    x, dy = (concrete(t).contiguous(memory_format=layout) for t in (x, dy))
    count, channels = len(whole.key.recipe.statistics), x.shape[1]
    sizes = zip((channels, channels, count, count), whole.key.dtypes[1:5], strict=True)
    grads = [
        None if dtype is None else torch.empty(size, dtype=dtype, device=x.device)
        for size, dtype in sizes
    ]
    dx = torch.empty_like(x) if wanted else None
    tensors = {"x": x, "dy": dy, "dx": dx, "gamma": gamma, "coefficients": whole.coefficients(True)}
    tensors.update(
        zip(("grad_gamma", "grad_beta", "grad_mean_logits", "grad_cov_logits"), grads, strict=True)
    )
    whole.run(
        whole.backward[wanted],
        tensors,
        (whole.form.kept, kept),
        (whole.form.back, whole.form.back.allocate(x)),
    )
    return dx, *grads


def whole_for(call: Call, x: Tensor, given: Given) -> Whole:
    """The launches for `x` and the parameters. How all of them lie is looked at in each call, for a
    layer can be cast or moved in place, and checked where it is new.
    """
    running = (None, None) if call.running is None else call.running[:2]
    kinds = tuple(
        [t if t is None else (t.dtype, t.get_device(), t.numel()) for t in (x, *given, *running)]
    )
    momentum = 0.0 if call.running is None else call.running.momentum
    kind = (call.recipe, call.solver, call.training, momentum, x.shape, not x.is_contiguous())
    found = _WHOLES.get((kind, kinds))
    if found is None:
        if len(_WHOLES) >= KINDS:
            _WHOLES.clear()
        found = _WHOLES[kind, kinds] = whole_of(key_of(call, x, given))
    return found


KINDS = 1024
"""Kinds of calls that are kept; with more it starts again."""
_WHOLES: dict[tuple, Whole] = {}


def apply(call: Call, x: Tensor, given: Given) -> Tensor:
    """y, differentiable where gradients are recorded."""
    whole = whole_for(call, x, given)
    if torch.is_grad_enabled():
        return FusedWhitening.apply(x, *given, whole, call)
    return run_forward(whole, call.running, x, in_row(given), whole.form.kept.allocate(x))


class FusedWhitening(torch.autograd.Function):
    """`Whitening` in as many launches as a `Whole` has. Saves x, γ and one tensor of small
    matrices. Differentiable as often as one likes.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, gamma, beta, mean_logits, cov_logits, whole: Whole, call: Call
    ) -> Tensor:
        given = (gamma, beta, mean_logits, cov_logits)
        plain = in_row(given)
        kept = whole.form.kept.allocate(x)
        y = run_forward(whole, call.running, x, plain, kept)
        ctx.seen = whole, call, given
        ctx.save_for_backward(x, plain[0], kept)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        (x, gamma, kept), (whole, call, given) = ctx.saved_tensors, ctx.seen
        shape, dtypes = whole.key.shape, whole.key.dtypes
        if (
            x.dtype is not dtypes[0]
            or tuple(x.shape) != shape
            or not (
                gamma is None
                or (
                    gamma.dtype is dtypes[1] and gamma.numel() == shape[1] and gamma.is_contiguous()
                )
            )
        ):
            raise RuntimeError(
                "the input or the weight of a whitening layer was given another dtype, "
                "size or layout between the forward and the backward pass"
            )
        if torch.is_grad_enabled() or not library.has_memory(dy):
            mean_logits, cov_logits, running = whole.form.constants(kept)
            found = composed.gradients(
                call._replace(running=running),
                (x, *given),
                (gamma, None, mean_logits, cov_logits),
                ctx.needs_input_grad[:5],
                dy,
            )
        else:
            found = run_backward(whole, x, dy, gamma, kept, ctx.needs_input_grad[0])
        return *found, None, None


def workspace_size(call: Call, images: int, channels: int, device: str) -> int:
    """Elements of a workspace: linear in the images and enough for every tensor to begin at a line
    of its own, whatever the layer mixes. The tables are made here, before anything runs, for a
    compiler's graphs allow no tensor that outlives a call in their memory.
    """
    for steps in steps_of(call.solver, call.recipe.group):
        table_on(steps, torch.empty(0, device=device).device)
    matrices, vectors, group = images + 1, 3 * images + 2, call.recipe.group
    return (
        channels * group * (2 * images + matrices)
        + channels * vectors
        + 2 * images
        + 16
        + 10 * ALIGNED
    )


def forward(call: Call, x: Tensor, given: Given, workspace: Tensor) -> Tensor:
    """Y without autograd, for any running statistics."""
    running = call.running
    if running is not None and not (running.mean.is_contiguous() and running.cov.is_contiguous()):
        moved = Running(running.mean.contiguous(), running.cov.contiguous(), running.momentum)
        y = forward(call._replace(running=moved), x, given, workspace)
        running.mean.copy_(moved.mean)
        running.cov.copy_(moved.cov)
        return y
    return run_forward(whole_for(call, x, given), running, x, in_row(given), workspace)


def backward(
    call: Call, dy: Tensor, x: Tensor, given: Given, workspace: Tensor, wants_dx: bool
) -> tuple[Tensor | None, ...]:
    """Gradients without autograd; those of parameters in the dtype of the workspace."""
    given = in_row(given)
    dx, *grads = run_backward(whole_for(call, x, given), x, dy, given[0], workspace, wants_dx)
    return dx, *(grad if grad is None else grad.to(workspace.dtype) for grad in grads)
