"""`jacobi` as one Triton kernel."""

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.base import Saved, dtype_name, one_of
from swbench.solvers.jacobi import Jacobi, sweeps_needed
from swbench.solvers.polar_triton import PRECISIONS, product_precision
from swbench.solvers.triton_kernels import TILE_LIMIT, missing


@dataclass(frozen=True, kw_only=True)
class JacobiTriton(Jacobi):
    """One launch forward, with one program for each matrix (for several where G ≤ 8). The backward
    is in torch. float32, G ≤ 64.
    """

    name: ClassVar[str] = "jacobi-triton"
    source: ClassVar[str] = (
        "swbench.solvers.jacobi, in Triton, every round of rotations as two products"
    )
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)

    precision: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("precision", self.precision, PRECISIONS)

    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        from swbench.solvers.triton_kernels.jacobi import jacobi

        sweeps = self.sweeps or sweeps_needed(torch.float32, cov.shape[-1])
        w, lam, d = jacobi(
            cov, sweeps, self.floor or 1e-7, product_precision(self.precision, cov.shape[-1])
        )
        return w, (lam, d)

    def clamped(self, cov: Tensor) -> Saved:
        return self.forward(cov)[1]

    def fits(self, group: int, dtype: str | torch.dtype) -> bool:
        return group <= TILE_LIMIT and dtype_name(dtype) in self.dtypes

    def in_torch(self) -> Jacobi:
        return Jacobi(**{field.name: getattr(self, field.name) for field in fields(Jacobi)})

    def available(self, device: str | torch.device) -> str | None:
        return super().available(device) or missing(device)
