"""The passes in plain torch operations: what runs everywhere, and what faster kernel sets are tested against."""

from typing import ClassVar

import torch
from torch import Tensor

from swbench.norms.kernels.base import Kernels, statistics_dtype


def grouped(x: Tensor, group: int) -> Tensor:
    """`x` (N, C, H, W), contiguous or channels_last, as (N, g, G, H·W) without a copy."""
    n, channels, height, width = x.shape
    if x.is_contiguous():
        return x.view(n, channels // group, group, height * width)
    return x.permute(0, 2, 3, 1).view(n, height * width, channels // group, group).permute(0, 2, 3, 1)


class AtenKernels(Kernels):
    """Batched products over (group, pixel) matrices."""

    name: ClassVar[str] = "torch"

    def takes(self, x: Tensor) -> bool:
        return True

    def moments(self, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        apart = self._apart(x, shift, group)
        mean = apart.mean(-1)
        second = apart @ apart.mT
        cov = torch.addcmul(second / apart.shape[-1], mean.unsqueeze(-1), mean.unsqueeze(-2), value=-1)
        return mean + shift.view(-1, group), cov

    def affine(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        y = torch.empty_like(x)
        grouped(y, a.shape[-1]).copy_(a @ self._wide(x, a.shape[-1]) + b.unsqueeze(-1))
        return y

    def products(self, dy: Tensor, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        wide = self._wide(dy, group)
        return wide @ self._apart(x, shift, group).mT, wide.sum(-1)

    def combine(self, dy: Tensor, x: Tensor, at: Tensor, b: Tensor, c: Tensor) -> Tensor:
        group = at.shape[-1]
        dx = torch.empty_like(x)
        grouped(dx, group).copy_(at @ self._wide(dy, group) + b @ self._wide(x, group) + c.unsqueeze(-1))
        return dx

    def _wide(self, x: Tensor, group: int) -> Tensor:
        return grouped(x, group).to(statistics_dtype(x))

    def _apart(self, x: Tensor, shift: Tensor, group: int) -> Tensor:
        return self._wide(x, group) - shift.view(-1, group, 1)
