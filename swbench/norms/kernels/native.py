"""The passes in C on a CPU: every tensor is read once and the result written once, on torch's own threads."""

from typing import ClassVar

import torch
from torch import Tensor

from swbench.native import library
from swbench.norms.kernels.aten import AtenKernels


class NativeKernels(AtenKernels):
    """float32 on a CPU, both layouts, G ≤ 64; a larger G runs on the torch operations it inherits.

    Sums are taken in blocks of pixels that depend on the shape alone, so results do not depend on the number of threads.
    """

    name: ClassVar[str] = "native"

    def __init__(self) -> None:
        self._native = library.load()
        self._here = library.missing() is None

    def takes(self, x: Tensor) -> bool:
        return self._here and x.dtype == torch.float32 and x.device.type == "cpu"

    def moments(self, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        if group > library.MAX_GROUP:
            return super().moments(x, shift, group)
        mean, cov = _per_group(x, group)
        pointers = (x.data_ptr(), shift.data_ptr(), shift.stride(0), mean.data_ptr(), cov.data_ptr())
        _check(self._native.sw_moments(*pointers, *_shape(x, group)))
        return mean, cov

    def affine(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        group = a.shape[-1]
        if group > library.MAX_GROUP:
            return super().affine(x, a, b)
        a, b, y = a.contiguous(), b.contiguous(), torch.empty_like(x)
        self._native.sw_affine(x.data_ptr(), a.data_ptr(), b.data_ptr(), a.shape[0] == 1, y.data_ptr(), *_shape(x, group))
        return y

    def products(self, dy: Tensor, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        if group > library.MAX_GROUP:
            return super().products(dy, x, shift, group)
        s, m = _per_group(x, group)
        pointers = (dy.data_ptr(), x.data_ptr(), shift.data_ptr(), shift.stride(0), m.data_ptr(), s.data_ptr())
        _check(self._native.sw_products(*pointers, *_shape(x, group)))
        return m, s

    def combine(self, dy: Tensor, x: Tensor, at: Tensor, b: Tensor, c: Tensor) -> Tensor:
        group = at.shape[-1]
        if group > library.MAX_GROUP:
            return super().combine(dy, x, at, b, c)
        a = at.mT
        transposed = a.is_contiguous()
        a, b, c, dx = a if transposed else at.contiguous(), b.contiguous(), c.contiguous(), torch.empty_like(x)
        matrices = (a.data_ptr(), transposed, b.data_ptr(), c.data_ptr(), a.shape[0] == 1)
        self._native.sw_combine(dy.data_ptr(), x.data_ptr(), *matrices, dx.data_ptr(), *_shape(x, group))
        return dx


def _shape(x: Tensor, group: int) -> tuple[int, ...]:
    """Images, channels, pixels, group, channels_last, threads: how every pass in C is called."""
    n, channels, height, width = x.shape
    return n, channels, height * width, group, not x.is_contiguous(), torch.get_num_threads()


def _per_group(x: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Room for a vector (N, g, G) and a matrix (N, g, G, G)."""
    n, groups = x.shape[0], x.shape[1] // group
    return x.new_empty(n, groups, group), x.new_empty(n, groups, group, group)


def _check(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the partial sums of a native pass")
