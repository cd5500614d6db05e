"""An approximation of Σ^(-1/2) by one diagonal Padé approximant, with a Lyapunov backward
normalised for each matrix.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from numpy.polynomial import polynomial
from torch import Tensor

from swbench.solvers.iterative import LYAPUNOV, IterativeSolver, normalised


@lru_cache(maxsize=16)
def coefficients(order: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """P and Q, from the constant up, of the [`order`/`order`] Padé approximant P(z)/Q(z) of (1 −
    z)^(1/2).

    From its partial fractions 1 − Σ_j a_j z/(1 − b_j z), a_j = 2 sin²(jπ/(2m+1))/(2m+1), b_j =
    cos²(jπ/(2m+1)) (Lu 1998; Higham, Functions of Matrices, 2008, §6.5).
    """
    angle = np.arange(1, order + 1) * np.pi / (2 * order + 1)
    a, b = 2 / (2 * order + 1) * np.sin(angle) ** 2, np.cos(angle) ** 2
    factors = [np.array([1.0, -bj]) for bj in b]
    q = _product(factors)
    p = q
    for j, aj in enumerate(a):
        p = polynomial.polysub(
            p, polynomial.polymul([0.0, aj], _product(factors[:j] + factors[j + 1 :]))
        )
    return tuple(map(float, p)), tuple(map(float, q))


def _product(factors: list[np.ndarray]) -> np.ndarray:
    product = np.array([1.0])
    for factor in factors:
        product = polynomial.polymul(product, factor)
    return product


@dataclass(frozen=True, kw_only=True)
class Pade(IterativeSolver):
    """W = P(I − S)⁻¹ Q(I − S)/√‖Σ‖ with P/Q the Padé approximant of (1 − z)^(1/2) of the given
    `order`.

    Exact to rounding only where S is near I; at κ in the hundreds the small eigenvalues are
    under-whitened. The backward takes this approximate W as if it were exact.
    """

    name: ClassVar[str] = "pade"
    source: ClassVar[str] = (
        "Song, Sebe and Wang 2022, Fast Differentiable Matrix Square Root and "
        "Inverse Square Root (MPA-Lya), with per-matrix norms"
    )
    exact: ClassVar[bool] = False
    inexact: ClassVar[str] = "one Padé approximant, not converged"

    order: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.order <= 12:
            raise ValueError(f"order must lie in 1 … 12, not {self.order}")

    @property
    def differentiates_as_exact(self) -> bool:
        return self.backward == LYAPUNOV  # which takes the approximate W as exact

    def iterate(self, cov: Tensor) -> Tensor:
        s, norm = normalised(cov)
        eye = torch.eye(s.shape[-1], dtype=s.dtype, device=s.device)
        z = eye - s
        p_terms, q_terms = coefficients(self.order)
        power, p, q = z, p_terms[0] * eye + p_terms[1] * z, q_terms[0] * eye + q_terms[1] * z
        for p_term, q_term in zip(p_terms[2:], q_terms[2:], strict=True):
            power = torch.bmm(power, z)
            p, q = p + p_term * power, q + q_term * power
        return torch.linalg.solve_ex(p, q).result.contiguous() * norm.rsqrt()

    def flops(self, group: int) -> float:
        """2 G³ for each power, 8/3 G³ for the solve with G right-hand sides (Golub and Van Loan,
        4th ed., §3.2).
        """
        return (2.0 * (self.order - 1) + 8 / 3) * group**3
