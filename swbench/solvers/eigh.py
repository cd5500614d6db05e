"""Σ^(-1/2) by a batched symmetric eigendecomposition."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.spectral_solver import SpectralSolver


@dataclass(frozen=True, kw_only=True)
class Eigh(SpectralSolver):
    """`torch.linalg.eigh` over the batch: LAPACK on a CPU (one matrix after the other), cuSOLVER on
    a GPU (batched up to G = 32 until torch 2.11; torch 2.12 has a new dispatch).
    """

    name: ClassVar[str] = "eigh"
    source: ClassVar[str] = "LAPACK syevd / cuSOLVER syevjBatched through torch.linalg.eigh"
    synchronises: ClassVar[bool] = True

    def decompose(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(cov)

    def flops(self, group: int) -> float:
        """About 9 G³ for values and vectors (Golub and Van Loan, Matrix Computations, 4th ed.,
        §8.3), and 2 G³ + G² for W.
        """
        return 11.0 * group**3 + group**2
