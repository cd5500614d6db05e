"""Whitening by the inverse Cholesky factor: a rotation of ZCA, cheap and exact at whitening, but
not Σ^(-1/2).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.base import Saved, Solver, isolate, symmetric
from swbench.solvers.cholesky_factor import cholesky_factor


@dataclass(frozen=True, kw_only=True)
class Cholesky(Solver):
    """W = L⁻¹ with Σ = L Lᵀ: W Σ Wᵀ = I, lower triangular, and dependent on the order of the
    channels.
    """

    name: ClassVar[str] = "cholesky"
    source: ClassVar[str] = (
        "LAPACK potrf and trtrs / cuSOLVER through torch; Siarohin, Sangineto "
        "and Sebe 2019 (whitening by it)"
    )
    exact: ClassVar[bool] = False
    inexact: ClassVar[str] = "whitens, but is not ZCA"
    symmetric: ClassVar[bool] = False

    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        safe, good = isolate(cov)
        eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device).expand_as(safe)
        w = torch.linalg.solve_triangular(cholesky_factor(safe), eye, upper=False)
        w = torch.where(good, w, torch.nan)
        return w, (w,)

    def gradient(self, saved: Saved, grad_w: Tensor) -> Tensor:
        """−sym(Wᵀ Φ(∂L/∂W Wᵀ) W), Φ the lower triangle with half its diagonal (Murray 2016, eq. 9,
        with ∂L = −Wᵀ ∂W Wᵀ).
        """
        (w,) = saved
        phi = torch.bmm(grad_w, w.mT).tril()
        phi.diagonal(dim1=-2, dim2=-1).mul_(0.5)
        return -symmetric(torch.bmm(torch.bmm(w.mT, phi), w))

    def flops(self, group: int) -> float:
        """G³/3 for the factor and G³/3 for its inverse (Golub and Van Loan, Matrix Computations,
        4th ed., §4.2 and §3.1).
        """
        return 2 * group**3 / 3
