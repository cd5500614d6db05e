"""Σ^(-1/2) by a batched singular value decomposition, as the paper has it (Pan et al. 2019,
supplement, eq. 1).
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.base import one_of
from swbench.solvers.spectral_solver import SpectralSolver

DRIVERS = ("auto", "gesvd", "gesvdj", "gesvda")
"""cuSOLVER's methods: QR, Jacobi (batched up to G = 32 only), and an approximate one for tall
matrices; `auto` leaves the choice to torch.
"""


@dataclass(frozen=True, kw_only=True)
class Svd(SpectralSolver):
    """`torch.linalg.svd` over the batch; `driver` picks cuSOLVER's method, on a GPU only.

    Σ = U S Vᵀ has D = U and Λ = S. Rounding can make Σ indefinite. S loses the sign of a negative
    eigenvalue, but ⟨u, v⟩ has it, so such eigenvalues are clamped here as they are with `eigh`.
    """

    name: ClassVar[str] = "svd"
    source: ClassVar[str] = "LAPACK gesdd / cuSOLVER gesvdj, gesvda, gesvd through torch.linalg.svd"
    synchronises: ClassVar[bool] = True

    driver: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("driver", self.driver, DRIVERS)

    def decompose(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        u, s, vh = torch.linalg.svd(cov, driver=None if self.driver == "auto" else self.driver)
        return s * torch.sign((u * vh.mT).sum(-2)), u

    def available(self, device: str | torch.device) -> str | None:
        if self.driver != "auto" and not str(device).startswith("cuda"):
            return (
                f"driver={self.driver} belongs to cuSOLVER; on {device} use `svd` without a driver"
            )
        return super().available(device)

    def flops(self, group: int) -> float:
        """About 22 G³ for values and both sets of vectors (Golub and Van Loan, 4th ed., fig.
        8.6.1), and 2 G³ + G² for W.
        """
        return 24.0 * group**3 + group**2
