"""A whitening layer in Triton as one autograd Function. What runs is two functions of tensors; only the running statistics change in place."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swbench.norms.kernels.triton_kernels.whole import Key, Whole, whole_of


def key_of(x: Tensor, parameters: tuple[Tensor | None, ...], call) -> Key:
    """What the launches for `x` and γ, β and the logits depend on. `call` is a `swbench.norms.whitening.Call`."""
    running = call.running
    tensors = (x, *parameters, None if running is None else running.mean)
    dtypes = tuple(None if t is None else t.dtype for t in tensors)
    momentum = 0.0 if running is None else running.momentum
    return Key(call.recipe, call.solver, tuple(x.shape), not x.is_contiguous(), call.training, momentum, x.device, dtypes)


def forward(whole: Whole, x: Tensor, parameters: tuple[Tensor | None, ...], running_mean: Tensor | None, running_cov: Tensor | None) -> tuple[Tensor, Tensor]:
    """y, and one tensor of the small matrices that the way back needs. In training the running statistics move, if there are any."""
    y, kept = torch.empty_like(x), whole.kept.allocate(x)
    names = ("gamma", "beta", "mean_logits", "cov_logits")
    tensors = {"x": x, "y": y, "running_mean": running_mean, "running_cov": running_cov, "coefficients": whole.coefficients(False)}
    tensors.update(zip(names, parameters, strict=True))
    whole.run(whole.forward, tensors, (whole.kept, kept), (whole.there, whole.there.allocate(x)))
    return y, kept


def backward(whole: Whole, x: Tensor, dy: Tensor, gamma: Tensor | None, kept: Tensor, wanted: bool = True) -> tuple[Tensor | None, ...]:
    """Gradients: dx (None unless `wanted`), those of γ, β and both sets of logits, None where there is no such parameter."""
    count, channels = len(whole.key.recipe.statistics), x.shape[1]
    sizes = zip((channels, channels, count, count), whole.key.dtypes[1:5], strict=True)
    grads = [None if dtype is None else torch.empty(size, dtype=dtype, device=x.device) for size, dtype in sizes]
    dx = torch.empty_like(x) if wanted else None
    tensors = {"x": x, "dy": dy, "dx": dx, "gamma": gamma, "coefficients": whole.coefficients(True)}
    tensors.update(zip(("grad_gamma", "grad_beta", "grad_mean_logits", "grad_cov_logits"), grads, strict=True))
    whole.run(whole.backward[wanted], tensors, (whole.kept, kept), (whole.back, whole.back.allocate(x)))
    return dx, *grads


class FusedWhitening(torch.autograd.Function):
    """`Whitening` in as many launches as a `Whole` has. Saves x, γ and one tensor of small matrices; differentiable once."""

    @staticmethod
    def forward(ctx, x: Tensor, gamma, beta, mean_logits, cov_logits, call) -> Tensor:
        parameters = tuple(p if p is None or p.is_contiguous() else p.contiguous() for p in (gamma, beta, mean_logits, cov_logits))
        whole, running = whole_of(key_of(x, parameters, call)), call.running
        y, kept = forward(whole, x, parameters, *(None, None) if running is None else (running.mean, running.cov))
        ctx.whole = whole
        ctx.save_for_backward(x, parameters[0], kept)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        return _once(ctx, dy) if torch.is_grad_enabled() else _backward(ctx, dy)


def _backward(ctx, dy: Tensor):
    x, gamma, kept = ctx.saved_tensors
    layout = torch.channels_last if ctx.whole.key.last else torch.contiguous_format
    x, dy = x.contiguous(memory_format=layout), dy.contiguous(memory_format=layout)  # hooks may unpack x in another layout (offloading does)
    return *backward(ctx.whole, x, dy, gamma, kept, ctx.needs_input_grad[0]), None


_once = once_differentiable(_backward)
"""For a graph of the gradient, where a second derivative must be refused; its own bookkeeping costs as much as a small layer."""
