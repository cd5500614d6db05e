"""The passes in torch operations, which run on every device; faster backends are tested against
them.
"""

from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import ClassVar

import torch
from torch import Tensor

from swbench.norms.kernels.pass_by_pass import PassBackend

PIECE = 2**18
"""Elements of a piece on a CPU, so that the result of one operation is still in the cache for the
next (1 MiB in float32).
"""

ALL = ...
"""Stands for the indices of a piece that is the full tensor."""


def stacked(x: Tensor, group: int) -> Tensor:
    """`x` (N, C, H, W), contiguous or channels_last, as (1, N·g, G, H·W) or (N, g, G, H·W) without
    a copy.
    """
    n, channels, height, width = x.shape
    if x.is_contiguous():
        return x.view(1, -1, group, height * width)
    return (
        x.permute(0, 2, 3, 1).view(n, height * width, channels // group, group).permute(0, 2, 3, 1)
    )


def pieces(
    group: int, *tensors: Tensor
) -> Iterator[tuple[slice | EllipsisType, bool, tuple[Tensor, ...]]]:
    """Cut tensors of one shape and layout into pieces (k, G, pixels).

    Yields, for each piece, the slice of the N·g (image, group) pairs that it holds, whether it is
    the first piece of these pairs, and the piece of each tensor.
    """
    stacks = [stacked(t, group) for t in tensors]
    outer, items, _, pixels = stacks[0].shape
    if outer == 1 and (not tensors[0].is_cpu or tensors[0].numel() <= PIECE):
        yield ALL, True, tuple(s[0] for s in stacks)
        return
    length = min(pixels, PIECE // group) if tensors[0].is_cpu else pixels
    step = max(1, PIECE // (group * length)) if tensors[0].is_cpu else items
    for image in range(outer):
        for i in range(0, items, step):
            j = min(i + step, items)
            for p in range(0, pixels, length):
                yield (
                    slice(image * items + i, image * items + j),
                    p == 0,
                    tuple(s[image, i:j, :, p : p + length] for s in stacks),
                )


def per_item(matrices: Tensor, n: int) -> Tensor:
    """(N or 1, g, …) as (N·g, …), repeated where one matrix is shared by all n images."""
    if matrices.shape[0] != n:
        matrices = matrices.expand(n, *matrices.shape[1:])
    return matrices.flatten(0, 1)


class TorchBackend(PassBackend):
    """A backend of batched products over (channel, pixel) matrices."""

    name: ClassVar[str] = "torch"

    def takes(self, x: Tensor) -> bool:
        return True

    def moments(self, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        n, _, height, width = x.shape
        pixels = height * width
        column = shift.view(-1, group, 1)

        def deviations(piece: Tensor, items: slice) -> tuple[Tensor, Tensor]:
            deviation = piece - column[items]
            return deviation, deviation

        second, total = self._sums(deviations, group, x)
        mean = total.div_(pixels)
        cov = torch.baddbmm(
            second, mean.unsqueeze(-1), mean.unsqueeze(-2), beta=1 / pixels, alpha=-1
        )
        return mean.view(n, -1, group) + shift.view(n, -1, group), cov.view(n, -1, group, group)

    def products(self, dy: Tensor, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        n, column = x.shape[0], shift.view(-1, group, 1)
        m, s = self._sums(
            lambda left, right, items: (left.to(column.dtype), right - column[items]), group, dy, x
        )
        return m.view(n, -1, group, group), s.view(n, -1, group)

    def affine(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        n, group = x.shape[0], a.shape[-1]
        a, b = per_item(a, n), per_item(b, n).unsqueeze(-1)
        y = torch.empty_like(x)
        for items, _, (source, target) in pieces(group, x, y):
            if x.dtype == a.dtype:
                torch.baddbmm(b[items], a[items], source, out=target)
            else:
                target.copy_(torch.baddbmm(b[items], a[items], source.to(a.dtype)))
        return y

    def combine(self, dy: Tensor, x: Tensor, at: Tensor, b: Tensor, c: Tensor) -> Tensor:
        n, group = x.shape[0], b.shape[-1]
        at, b, c = per_item(at, n), per_item(b, n), per_item(c, n).unsqueeze(-1)
        dx = torch.empty_like(x)
        for items, _, (left, right, target) in pieces(group, dy, x, dx):
            if x.dtype == b.dtype:
                torch.baddbmm(c[items], at[items], left, out=target)
                target.baddbmm_(b[items], right)
            else:
                full = torch.baddbmm(c[items], at[items], left.to(b.dtype))
                target.copy_(full.baddbmm_(b[items], right.to(b.dtype)))
        return dx

    def _sums(
        self, factors: Callable[..., tuple[Tensor, Tensor]], group: int, *tensors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Σ left rightᵀ, (N·g, G, G), and Σ left, (N·g, G), where `factors` makes left and right of
        the pieces of `tensors`.
        """
        products = sums = None
        for items, first, given in pieces(group, *tensors):
            left, right = factors(*given, items)
            if items is ALL:
                return torch.bmm(left, right.mT), left.sum(-1)
            if products is None:
                count = tensors[0].shape[0] * tensors[0].shape[1] // group
                products, sums = left.new_empty(count, group, group), left.new_empty(count, group)
            if first:
                torch.bmm(left, right.mT, out=products[items])
                torch.sum(left, -1, out=sums[items])
            else:
                products[items].baddbmm_(left, right.mT)
                sums[items] += left.sum(-1)
        return products, sums
