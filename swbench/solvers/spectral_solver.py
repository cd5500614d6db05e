"""The base of solvers that hold eigenvectors: W = D Λ^(-1/2) Dᵀ (Pan et al. 2019, supplement, eqs.
1–4), by any method that finds Λ and D.
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from swbench.solvers.base import Saved, Solver, isolate, one_of
from swbench.solvers.eigen_backward import DALECKII_KREIN, FORMS, spectral_gradient


@dataclass(frozen=True, kw_only=True)
class SpectralSolver(Solver):
    """A solver whose subclass only decomposes.

    Eigenvalues are clamped from below at `floor`·λ_max, because in float32 a covariance of few
    pixels can come out indefinite; `floor` 0 stands for 1e-7 in float32 and 1e-15 in float64.
    `backward` is `daleckii-krein`, or `paper`: eqs. (7)–(9), which fail where eigenvalues meet.
    """

    backward: str = DALECKII_KREIN
    floor: float = 0.0

    def __post_init__(self) -> None:
        one_of("backward", self.backward, FORMS)

    @abstractmethod
    def decompose(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvalues (B, G), in any order, and eigenvectors in columns (B, G, G) of a finite
        symmetric `cov`.
        """

    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        lam, d = self.clamped(cov)
        return (d * lam.rsqrt().unsqueeze(-2)) @ d.mT, (lam, d)

    def inverse_root(self, cov: Tensor, root: int = 2) -> Tensor:
        """D Λ^(-1/root) Dᵀ: one decomposition for any root."""
        self.check_root(root)
        lam, d = self.clamped(cov)
        return (d * lam.pow(-1 / root).unsqueeze(-2)) @ d.mT

    def root_flops(self, group: int, root: int = 2) -> float:
        return self.flops(group)

    def clamped(self, cov: Tensor) -> Saved:
        """Eigenvalues, clamped, and eigenvectors; NaN for those of a matrix that is not finite."""
        safe, good = isolate(cov)
        lam, d = self.decompose(safe)
        floor = self.floor or (1e-15 if cov.dtype == torch.float64 else 1e-7)
        lam = torch.maximum(lam, floor * lam.amax(-1, keepdim=True))
        return torch.where(good.squeeze(-1), lam, torch.nan), d

    def gradient(self, saved: Saved, grad_w: Tensor) -> Tensor:
        lam, d = saved
        return spectral_gradient(self.backward, lam, d, grad_w)
