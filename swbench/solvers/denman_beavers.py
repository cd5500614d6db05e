"""Σ^(-1/2) by the product form of the Denman–Beavers iteration, with inverses."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.iterative import SteppedSolver, normalised


@dataclass(frozen=True, kw_only=True)
class DenmanBeavers(SteppedSolver):
    """M = S, Z = I; repeat N = (μ²M)⁻¹, Z = μ Z (I + N)/2, M = (2I + μ²M + N)/4; W = Z/√‖Σ‖.

    M → I and Z → S^(-1/2) quadratically. μ² = √(‖M⁻¹‖/‖M‖) balances the spectrum of M around 1 and
    tends to 1 by itself. `steps` 0 stands for 9 in float32 and 11 in float64. The inverse is LU's,
    without the check that would synchronise.
    """

    name: ClassVar[str] = "denman-beavers"
    source: ClassVar[str] = (
        "Cheng, Higham, Kenney and Laub 2001; Higham 2008, Functions of "
        "Matrices, eqs. 6.29 and 6.17"
    )

    USUAL: ClassVar[dict[torch.dtype, int]] = {torch.float32: 9, torch.float64: 11}
    """Measured: scaling makes √κ fall as in a scaled Newton iteration for the sign, so κ = 1e6
    (1e12) needs one or two steps fewer than these.
    """

    def iterate(self, cov: Tensor) -> Tensor:
        m, norm = normalised(cov)
        eye = torch.eye(m.shape[-1], dtype=m.dtype, device=m.device)
        z = eye.expand_as(m)
        for _ in range(self.count(cov.dtype)):
            inverse = torch.linalg.inv_ex(m).inverse
            size, inverse_size = (
                torch.linalg.matrix_norm(m, keepdim=True),
                torch.linalg.matrix_norm(inverse, keepdim=True),
            )
            mu2 = (inverse_size / size).sqrt()
            n = inverse / mu2
            z = (0.5 * mu2.sqrt()) * torch.baddbmm(z, z, n)
            m = 0.25 * (mu2 * m + n) + 0.5 * eye
        return z * norm.rsqrt()

    def flops(self, group: int) -> float:
        """2 G³ for an LU inverse (Golub and Van Loan, Matrix Computations, 4th ed., §3.2) and 2 G³
        for the product, each step (float32).
        """
        return self.count(torch.float32) * 4.0 * group**3
