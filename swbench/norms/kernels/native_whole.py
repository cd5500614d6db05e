"""A whitening layer as one call into C each way: at batch 1 the dispatch of dozens of small operations is what they cost."""

import ctypes
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swbench.native import library
from swbench.norms.kernels.halves import Halves
from swbench.norms.recipe import Recipe
from swbench.norms.whitening import Call, Running

KINDS = ("bw", "iw", "bn", "in", "ln")
"""`enum statistic` of `swbench/native/src/algebra.h`, by position."""


@cache
def statistics_of(recipe: Recipe):
    """The recipe's statistics as `enum statistic`. Never dropped, for C is given its address."""
    return (ctypes.c_int * len(recipe.statistics))(*(KINDS.index(s) for s in recipe.statistics))


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _described(call: Call, images: int, channels: int) -> library.Whole:
    """What C is told of a layer, but for tensors and the size of an image."""
    recipe, kinds = call.recipe, statistics_of(call.recipe)
    k = library.Whole(images=images, channels=channels, group=recipe.group, statistics=ctypes.addressof(kinds), kinds=len(kinds))
    k.uses_batch, k.uses_image, k.training, k.eps = recipe.uses_batch, recipe.uses_image, call.training, recipe.eps
    return k


def _plain(given: tuple[Tensor | None, ...]) -> list[Tensor | None]:
    """Parameters as C reads them."""
    return [p if p is None else p.float().contiguous() for p in given]


def _forward(call: Call, x: Tensor, given: tuple[Tensor | None, ...], room: Tensor | None = None) -> tuple[Tensor, Tensor, list[Tensor | None], library.Whole]:
    n, channels, height, width = x.shape
    running, native, y = call.running, library.load(), torch.empty_like(x)
    k = _described(call, n, channels)
    k.pixels, k.centre, k.channels_last = height * width, height // 2 * width + width // 2, not x.is_contiguous()
    if running is not None:
        k.fresh, k.running_mean, k.running_cov = 1 - running.momentum, running.mean.data_ptr(), running.cov.data_ptr()
    parameters = _plain(given)
    k.gamma, k.beta, k.mean_logits, k.cov_logits = map(_pointer, parameters)
    room = x.new_empty(native.sw_room(k)) if room is None else room
    k.x, k.y, k.room = x.data_ptr(), y.data_ptr(), room.data_ptr()
    if native.sw_forward(k, torch.get_num_threads()):
        raise MemoryError("no memory for the sums of a native whitening layer")
    return y, room, parameters, k


def _backward(k: library.Whole, dy: Tensor, x: Tensor, parameters: list[Tensor | None], room: Tensor, wants_dx: bool) -> tuple[Tensor | None, ...]:
    layout = torch.channels_last if k.channels_last else torch.contiguous_format
    x, dy = x.contiguous(memory_format=layout), dy.contiguous(memory_format=layout)  # hooks may unpack x in another layout (offloading does)
    dx = torch.empty_like(x) if wants_dx else None
    grads = [None if p is None else torch.empty_like(p) for p in parameters]
    k.x, k.room, k.dy, k.dx = x.data_ptr(), room.data_ptr(), dy.data_ptr(), _pointer(dx)
    k.gamma, k.beta, k.mean_logits, k.cov_logits = map(_pointer, parameters)
    k.grad_gamma, k.grad_beta, k.grad_mean_logits, k.grad_cov_logits = map(_pointer, grads)
    if library.load().sw_backward(k, torch.get_num_threads()):
        raise MemoryError("no memory for the sums of a native whitening layer")
    return dx, *grads


class WholeWhitening(torch.autograd.Function):
    """`Whitening` for float32 on a CPU with the native solver. Saves x, one tensor of small matrices, and the parameters."""

    @staticmethod
    def forward(ctx, x: Tensor, gamma, beta, mean_logits, cov_logits, call: Call) -> Tensor:
        y, room, parameters, ctx.whole = _forward(call, x, (gamma, beta, mean_logits, cov_logits))
        ctx.save_for_backward(x, room, *parameters)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        return _once(ctx, dy) if torch.is_grad_enabled() else _differentiated(ctx, dy)


def _differentiated(ctx, dy: Tensor):
    x, room, *parameters = ctx.saved_tensors
    return *_backward(library.Whole.from_buffer_copy(ctx.whole), dy, x, parameters, room, ctx.needs_input_grad[0]), None


_once = once_differentiable(_differentiated)
"""For a graph of the gradient, where a second derivative must be refused; its own bookkeeping costs as much as a small layer."""


class WholeHalves(Halves):
    """The two calls without autograd."""

    def room(self, call, images, channels, dtype, device):
        return library.load().sw_room(_described(call, images, channels))

    def forward(self, call, x, given, room):
        running = call.running
        if running is None or running.plain:
            return _forward(call, x, given, room)[0]
        moved = Running(running.mean.float().contiguous(), running.cov.float().contiguous(), running.momentum)
        y = _forward(replace(call, running=moved), x, given, room)[0]
        if call.training:
            running.mean.copy_(moved.mean)
            running.cov.copy_(moved.cov)
        return y

    def backward(self, call, dy, x, given, room, wants_dx):
        n, channels, height, width = x.shape
        k = _described(call, n, channels)
        k.pixels, k.channels_last = height * width, not x.is_contiguous()
        return _backward(k, dy, x, _plain(given), room, wants_dx)


WHOLE = WholeHalves()
