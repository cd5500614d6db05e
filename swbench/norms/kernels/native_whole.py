"""A whitening layer as one call into C each way: at batch 1 the dispatch of dozens of small operations is what they cost."""

import ctypes
from dataclasses import replace
from functools import cache
from struct import Struct

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swbench.native import library
from swbench.norms.kernels.base import on_one_device
from swbench.norms.kernels.halves import Given, Halves
from swbench.norms.recipe import Recipe
from swbench.norms.whitening import Call, Running

KINDS = ("bw", "iw", "bn", "in", "ln")
"""`enum statistic` of `swbench/native/src/algebra.h`, by position."""
TENSORS, PARAMETERS, GRADIENTS = Struct("5P"), Struct("6P"), Struct("4P")
"""Runs of pointers in `struct whole`, written in one go: x dy y dx room; the running statistics and the parameters; the gradients of these."""
_RUNNING, _GRADIENTS = library.Whole.running_mean.offset, library.Whole.grad_gamma.offset


@cache
def statistics_of(recipe: Recipe):
    """The recipe's statistics as `enum statistic`. Never dropped, for C is given its address."""
    return (ctypes.c_int * len(recipe.statistics))(*(KINDS.index(s) for s in recipe.statistics))


class Whole:
    """The layer for inputs of one shape and layout. `call.running` is plain, and `forward` reads and moves it where it is now."""

    __slots__ = ("backward_in_c", "described", "forward_in_c", "layout", "room", "running")

    def __init__(self, call: Call, shape: tuple[int, int, int, int], channels_last: bool) -> None:
        recipe, kinds, native = call.recipe, statistics_of(call.recipe), library.load()
        n, channels, height, width = shape
        k = library.Whole(images=n, channels=channels, pixels=height * width, centre=height // 2 * width + width // 2)
        k.group, k.channels_last, k.statistics, k.kinds = recipe.group, channels_last, ctypes.addressof(kinds), len(kinds)
        k.uses_batch, k.uses_image, k.training, k.eps = recipe.uses_batch, recipe.uses_image, call.training, recipe.eps
        k.fresh = 0 if call.running is None else 1 - call.running.momentum
        self.described, self.running, self.room = bytes(k), call.running, native.sw_room(k)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.forward_in_c, self.backward_in_c = native.sw_forward, native.sw_backward

    def forward(self, x: Tensor, given: list[Tensor | None], room: Tensor) -> Tensor:
        """y; `room` is filled with what `backward` needs."""
        y, running = torch.empty_like(x), self.running
        k = library.Whole.from_buffer_copy(self.described)
        TENSORS.pack_into(k, 0, x.data_ptr(), 0, y.data_ptr(), 0, room.data_ptr())
        moved = (0, 0) if running is None else (running.mean.data_ptr(), running.cov.data_ptr())
        PARAMETERS.pack_into(k, _RUNNING, *moved, *[0 if p is None else p.data_ptr() for p in given])
        if self.forward_in_c(k, torch.get_num_threads()):
            raise MemoryError("no memory for the sums of a native whitening layer")
        return y

    def backward(self, dy: Tensor, x: Tensor, given: tuple[Tensor | None, ...], room: Tensor, wants_dx: bool) -> tuple[Tensor | None, ...]:
        """The gradients of x, if anybody `wants_dx`, and of the four parameters."""
        # Any layout can come in: of dy from an expanded gradient, of x from a hook that took it elsewhere and back.
        layout = self.layout
        if not (dy.is_contiguous(memory_format=layout) and x.is_contiguous(memory_format=layout)):
            x, dy = x.contiguous(memory_format=layout), dy.contiguous(memory_format=layout)
        dx = torch.empty_like(x) if wants_dx else None
        grads = [None if p is None else torch.empty_like(p) for p in given]
        k = library.Whole.from_buffer_copy(self.described)
        TENSORS.pack_into(k, 0, x.data_ptr(), dy.data_ptr(), 0, 0 if dx is None else dx.data_ptr(), room.data_ptr())
        PARAMETERS.pack_into(k, _RUNNING, 0, 0, *[0 if p is None else p.data_ptr() for p in given])
        GRADIENTS.pack_into(k, _GRADIENTS, *[0 if g is None else g.data_ptr() for g in grads])
        if self.backward_in_c(k, torch.get_num_threads()):
            raise MemoryError("no memory for the sums of a native whitening layer")
        return dx, *grads


def plain(given: Given) -> list[Tensor | None]:
    """Parameters as C reads them. Raises RuntimeError for one that is on another device."""
    return [p if p is None or (p.dtype is torch.float32 and p.is_cpu and p.is_contiguous()) else _plain(p) for p in given]


def _plain(parameter: Tensor) -> Tensor:
    on_one_device(torch.empty(0), (parameter,))
    return parameter.float().contiguous()


class WholeWhitening(torch.autograd.Function):
    """`Whitening` for float32 on a CPU with the native solver. Saves x, one tensor of small matrices, and the parameters."""

    @staticmethod
    def forward(ctx, x: Tensor, gamma, beta, mean_logits, cov_logits, whole: Whole) -> Tensor:
        given = plain((gamma, beta, mean_logits, cov_logits))
        room = x.new_empty(whole.room)
        y = whole.forward(x, given, room)
        ctx.save_for_backward(x, room, *given)
        ctx.whole = whole
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        return _once(ctx, dy) if torch.is_grad_enabled() else _backward(ctx, dy)


def _backward(ctx, dy: Tensor):
    x, room, *given = ctx.saved_tensors
    return *ctx.whole.backward(dy, x, given, room, ctx.needs_input_grad[0]), None


_once = once_differentiable(_backward)
"""For a graph of the gradient, where a second derivative must be refused; its own bookkeeping costs as much as a small layer."""


class WholeHalves(Halves):
    """The two calls without autograd, for any running statistics."""

    def room(self, call, images, channels, dtype, device):
        return Whole(replace(call, running=None), (images, channels, 1, 1), False).room

    def forward(self, call, x, given, room):
        running = call.running
        if running is None or running.plain:
            return Whole(call, x.shape, not x.is_contiguous()).forward(x, plain(given), room)
        moved = Running(running.mean.float().contiguous(), running.cov.float().contiguous(), running.momentum)
        y = self.forward(replace(call, running=moved), x, given, room)
        if call.training:
            running.mean.copy_(moved.mean)
            running.cov.copy_(moved.cov)
        return y

    def backward(self, call, dy, x, given, room, wants_dx):
        return Whole(call, x.shape, not x.is_contiguous()).backward(dy, x, plain(given), room, wants_dx)


WHOLE = WholeHalves()
