"""A whitening layer as one call into C each way: at batch 1 the dispatch of dozens of small operations is what they cost."""

import ctypes
from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swbench.native import library
from swbench.norms.recipe import Recipe

KINDS = ("bw", "iw", "bn", "in", "ln")
"""`enum statistic` of `swbench/native/src/algebra.h`, by position."""


@cache
def statistics_of(recipe: Recipe):
    """The recipe's statistics as `enum statistic`. Never dropped, for C is given its address."""
    return (ctypes.c_int * len(recipe.statistics))(*(KINDS.index(s) for s in recipe.statistics))


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


class WholeWhitening(torch.autograd.Function):
    """`Whitening` for float32 on a CPU with the native solver. Saves x, one tensor of small matrices, and the parameters."""

    @staticmethod
    def forward(ctx, x: Tensor, gamma, beta, mean_logits, cov_logits, call) -> Tensor:
        recipe, running = call.recipe, call.running
        n, channels, height, width = x.shape
        kinds = statistics_of(recipe)
        y = torch.empty_like(x)
        k = library.Whole(x=x.data_ptr(), y=y.data_ptr(), images=n, channels=channels, pixels=height * width)
        k.centre, k.group, k.channels_last = height // 2 * width + width // 2, recipe.group, not x.is_contiguous()
        k.statistics, k.kinds = ctypes.addressof(kinds), len(kinds)
        k.uses_batch, k.uses_image, k.training, k.eps = recipe.uses_batch, recipe.uses_image, call.training, recipe.eps
        if running is not None:
            k.fresh, k.running_mean, k.running_cov = 1 - running.momentum, running.mean.data_ptr(), running.cov.data_ptr()
        parameters = [p if p is None else p.float().contiguous() for p in (gamma, beta, mean_logits, cov_logits)]
        k.gamma, k.beta, k.mean_logits, k.cov_logits = map(_pointer, parameters)
        native = library.load()
        room = x.new_empty(native.sw_room(k))
        k.room = room.data_ptr()
        if native.sw_forward(k, torch.get_num_threads()):
            raise MemoryError("no memory for the sums of a native whitening layer")
        ctx.save_for_backward(x, room, *parameters)
        ctx.whole = k
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        return _once(ctx, dy) if torch.is_grad_enabled() else _backward(ctx, dy)


def _backward(ctx, dy: Tensor):
    x, room, *parameters = ctx.saved_tensors
    k = library.Whole.from_buffer_copy(ctx.whole)
    layout = torch.channels_last if k.channels_last else torch.contiguous_format
    x, dy = x.contiguous(memory_format=layout), dy.contiguous(memory_format=layout)  # hooks may unpack x in another layout (offloading does)
    dx = torch.empty_like(x) if ctx.needs_input_grad[0] else None
    grads = [None if p is None else torch.empty_like(p) for p in parameters]
    k.x, k.room, k.dy, k.dx = x.data_ptr(), room.data_ptr(), dy.data_ptr(), _pointer(dx)
    k.gamma, k.beta, k.mean_logits, k.cov_logits = map(_pointer, parameters)
    k.grad_gamma, k.grad_beta, k.grad_mean_logits, k.grad_cov_logits = map(_pointer, grads)
    if library.load().sw_backward(k, torch.get_num_threads()):
        raise MemoryError("no memory for the sums of a native whitening layer")
    return dx, *grads, None


_once = once_differentiable(_backward)
"""For a graph of the gradient, where a second derivative must be refused; its own bookkeeping costs as much as a small layer."""
