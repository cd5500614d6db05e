"""Σ^(-1/2) by a batched symmetric eigendecomposition, W = D Λ^(-1/2) Dᵀ (Pan et al. 2019, supplement, eqs. 1–4)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.base import Saved, Solver, isolate
from swbench.solvers.spectral import DALECKII_KREIN, FORMS, spectral_gradient


@dataclass(frozen=True, kw_only=True)
class Eigh(Solver):
    """`torch.linalg.eigh` over the batch: LAPACK on a CPU (one matrix after the other), cuSOLVER on a GPU.

    Eigenvalues are clamped from below at `floor`·λ_max, because in float32 a covariance of few pixels can come out indefinite.
    """

    name: ClassVar[str] = "eigh"
    source: ClassVar[str] = "LAPACK syevd / cuSOLVER syevjBatched through torch.linalg.eigh"
    synchronises: ClassVar[bool] = True

    backward: str = DALECKII_KREIN
    floor: float = 1e-7

    def __post_init__(self) -> None:
        if self.backward not in FORMS:
            raise ValueError(f"backward must be one of {', '.join(FORMS)}, not {self.backward!r}")

    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        safe, good = isolate(cov)
        lam, d = torch.linalg.eigh(safe)
        lam = torch.maximum(lam, self.floor * lam[..., -1:])
        w = (d * lam.rsqrt().unsqueeze(-2)) @ d.mT
        return torch.where(good, w, torch.nan), (lam, d)

    def gradient(self, saved: Saved, grad_w: Tensor) -> Tensor:
        lam, d = saved
        return spectral_gradient(self.backward, lam, d, grad_w)

    def flops(self, group: int) -> float:
        """About 9 G³ for values and vectors (Golub and Van Loan, Matrix Computations, 4th ed., §8.3), and 2 G³ + G² for W."""
        return 11.0 * group**3 + group**2
