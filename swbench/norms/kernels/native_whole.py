"""A whitening layer as one call into C each way: at batch 1 the dispatch of dozens of small
operations is what they cost.
"""

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable

from swbench.native import library
from swbench.norms.kernels.base import Bound, abstract, concrete, on_one_device, sized
from swbench.norms.kernels.halves import Given, Halves
from swbench.norms.recipe import Recipe
from swbench.norms.whitening import Call, Running

KINDS = ("bw", "iw", "bn", "in", "ln")
"""`enum statistic` of `swbench/native/src/algebra.h`, by position."""


@cache
def statistics_of(recipe: Recipe):
    """The recipe's statistics as `enum statistic`. Never dropped, for C is given its address."""
    return (ctypes.c_int * len(recipe.statistics))(*(KINDS.index(s) for s in recipe.statistics))


class Whole:
    """The layer for inputs of one shape and layout. `call.running` is plain, and `forward` reads
    and moves it where it is now.
    """

    __slots__ = (
        "address",
        "backward_in_c",
        "call",
        "channels_last",
        "described",
        "forward_in_c",
        "like",
        "room",
        "running",
        "shape",
        "sizes",
    )

    def __init__(self, call: Call, shape: tuple[int, int, int, int], channels_last: bool) -> None:
        recipe, kinds, native = call.recipe, statistics_of(call.recipe), library.load()
        n, channels, height, width = shape
        k = library.Whole(
            images=n,
            channels=channels,
            pixels=height * width,
            centre=height // 2 * width + width // 2,
        )
        k.group, k.channels_last, k.statistics, k.kinds = (
            recipe.group,
            channels_last,
            ctypes.addressof(kinds),
            len(kinds),
        )
        k.uses_batch, k.uses_image, k.training, k.eps = (
            recipe.uses_batch,
            recipe.uses_image,
            call.training,
            recipe.eps,
        )
        k.fresh = 0 if call.running is None else 1 - call.running.momentum
        self.described, self.address, self.running, self.room = (
            k,
            ctypes.addressof(k),
            call.running,
            native.sw_room(k),
        )
        self.shape, self.channels_last, self.sizes = (
            tuple(shape),
            channels_last,
            (channels, len(kinds)),
        )
        self.forward_in_c, self.backward_in_c = native.sw_forward, native.sw_backward
        # Gradients are made like these, which nobody can change, and not like the parameters, which
        # may be given another dtype or device before the way back.
        of_channels, of_kinds = (
            torch.empty(size, dtype=torch.float32, device="cpu") for size in self.sizes
        )
        self.like = of_channels, of_channels, of_kinds, of_kinds
        self.call = None

    def bound(self) -> Bound:
        """The layer as a function of tensors, for many calls: itself, without Python between the
        tensors and C where all of them are plain.
        """
        make = library.calls()
        if make is not None:
            of_channels, _, of_kinds, _ = self.like
            kept = (None, None) if self.running is None else (self.running.mean, self.running.cov)
            self.call = make(
                self.address,
                self.shape,
                *kept,
                of_channels.new_empty(1).expand(self.room),
                of_channels,
                of_kinds,
            )
        return self

    def __call__(self, x: Tensor, *given: Tensor | None) -> Tensor:
        """y, differentiable where gradients are recorded."""
        y = self.again(x, *given)
        if y is not None:
            return y
        # which refuses: without it a tangent would be lost
        if torch.is_grad_enabled() or forward_ad._current_level >= 0:
            return WholeWhitening.apply(x, *given, self)
        return self.forward(x, *plain(given), x.new_empty(self.room))

    def again(self, x: Tensor, *given: Tensor | None) -> Tensor | None:
        """The same where all tensors are plain and no transform is at work; None where not."""
        call = self.call
        if call is None or not call.takes(x, *given) or _transforms():
            return None
        if torch.is_grad_enabled() or forward_ad._current_level >= 0:
            return _apply(x, *given, self)
        done = call.forward(x, *given)
        return None if done is None else done[0]

    def forward(
        self,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor | None,
        cov: Tensor | None,
        room: Tensor,
    ) -> Tensor:
        """y; `room` is filled with what `backward` needs beside x. All parameters are `plain`.
        Raises ValueError for one of another size.
        """
        channels, kinds = self.sizes
        if (
            (gamma is not None and gamma.numel() != channels)
            or (beta is not None and beta.numel() != channels)
            or (mean is not None and mean.numel() != kinds)
            or (cov is not None and cov.numel() != kinds)
        ):
            sized((gamma, beta, mean, cov), channels, kinds)
        y, running = torch.empty_like(x), self.running
        if self.forward_in_c(
            self.address,
            x.data_ptr(),
            y.data_ptr(),
            room.data_ptr(),
            None if running is None else running.mean.data_ptr(),
            None if running is None else running.cov.data_ptr(),
            None if gamma is None else gamma.data_ptr(),
            None if beta is None else beta.data_ptr(),
            None if mean is None else mean.data_ptr(),
            None if cov is None else cov.data_ptr(),
            torch.get_num_threads(),
        ):
            raise MemoryError("no memory for the sums of a native whitening layer")
        return y

    def backward(
        self, dy: Tensor, x: Tensor, room: Tensor, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x and of the four parameters, whose values are in the room: of those
        `wanted`.

        Raises RuntimeError for an x or a room that is not what `forward` was given, as hooks on
        saved tensors may return.
        """
        if (
            x.shape != dy.shape
            or x.dtype is not torch.float32
            or room.dtype is not torch.float32
            or room.numel() < self.room
            or not (x.is_cpu and room.is_cpu)
        ):
            raise RuntimeError(
                "a saved tensor of a whitening layer came back with another shape, "
                "dtype or device; a hook that packs it has to restore these"
            )
        # Any layout can come in: of dy from an expanded gradient, of x from a hook that took it
        # elsewhere and back; and views whose memory holds the opposite.
        x, dy = concrete(x), concrete(dy)
        if self.channels_last:
            x, dy = (
                x.contiguous(memory_format=torch.channels_last),
                dy.contiguous(memory_format=torch.channels_last),
            )
        elif not (dy.is_contiguous() and x.is_contiguous()):
            x, dy = x.contiguous(), dy.contiguous()
        gamma, beta, mean, cov = [
            torch.empty_like(one) if asked else None
            for one, asked in zip(self.like, wanted[1:5], strict=True)
        ]
        dx = torch.empty_like(x) if wanted[0] else None
        if self.backward_in_c(
            self.address,
            dy.data_ptr(),
            x.data_ptr(),
            room.data_ptr(),
            None if dx is None else dx.data_ptr(),
            None if gamma is None else gamma.data_ptr(),
            None if beta is None else beta.data_ptr(),
            None if mean is None else mean.data_ptr(),
            None if cov is None else cov.data_ptr(),
            torch.get_num_threads(),
        ):
            raise MemoryError("no memory for the sums of a native whitening layer")
        return dx, gamma, beta, mean, cov


def plain(given: Given) -> list[Tensor | None]:
    """Parameters as C reads them. Raises RuntimeError for one that is on another device."""
    return [
        p
        if p is None
        or (p.dtype is torch.float32 and p.is_cpu and p.is_contiguous() and not abstract(p))
        else _plain(p)
        for p in given
    ]


def _plain(parameter: Tensor) -> Tensor:
    on_one_device(torch.empty(0), (parameter,))
    return concrete(parameter).float().contiguous()


class WholeWhitening(torch.autograd.Function):
    """`Whitening` for float32 on a CPU with the native solver. Saves x, and one tensor of small
    matrices and of the parameters' values.
    """

    @staticmethod
    def forward(ctx, x: Tensor, gamma, beta, mean_logits, cov_logits, whole: Whole) -> Tensor:
        done = (
            None
            if whole.call is None
            else whole.call.forward(x, gamma, beta, mean_logits, cov_logits)
        )
        if done is None:
            room = x.new_empty(whole.room)
            y = whole.forward(x, *plain((gamma, beta, mean_logits, cov_logits)), room)
        else:
            y, room = done
        ctx.save_for_backward(x, room)
        ctx.whole = whole
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        if torch.is_grad_enabled():
            return _once(ctx, dy)
        x, room = ctx.saved_tensors
        whole, wanted = ctx.whole, ctx.needs_input_grad
        done = None if whole.call is None else whole.call.backward(dy, x, room, wanted)
        return (*whole.backward(dy, x, room, wanted), None) if done is None else done


# With cold caches every frame of Python costs microseconds, and a small layer has few to spend.
_apply = super(torch.autograd.Function, WholeWhitening).apply
"""`WholeWhitening.apply` of plain tensors where no transform of functorch is at work, without the
search for what it left behind.
"""
_transforms = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
# torch's own first finds out whether the Function has a `backward` or a `vjp`
WholeWhitening._backward_cls.apply = WholeWhitening.backward
_once = once_differentiable(WholeWhitening.backward)
"""For a graph of the gradient, where a second derivative must be refused: `backward` with gradients
off, and bookkeeping that costs as much as a layer.
"""


class WholeHalves(Halves):
    """The two calls without autograd, for any running statistics."""

    def room(self, call, images, channels, dtype, device):
        return Whole(replace(call, running=None), (images, channels, 1, 1), False).room

    def forward(self, call, x, given, room):
        running = call.running
        if running is None or running.plain:
            return Whole(call, x.shape, not x.is_contiguous()).forward(x, *plain(given), room)
        moved = Running(
            *(concrete(one).float().contiguous() for one in (running.mean, running.cov)),
            running.momentum,
        )
        y = self.forward(replace(call, running=moved), x, given, room)
        if call.training:
            running.mean.copy_(moved.mean)
            running.cov.copy_(moved.cov)
        return y

    def backward(self, call, dy, x, given, room, wants_dx):
        return Whole(call, x.shape, not x.is_contiguous()).backward(
            dy, x, room, (wants_dx, *(p is not None for p in given))
        )


WHOLE = WholeHalves()
