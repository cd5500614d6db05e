"""Σ^(-1/p) by the coupled Newton iteration for p-th roots, which Shampoo's implementations run."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers import products
from swbench.solvers.base import isolate, one_of, symmetric
from swbench.solvers.iterative import UNIT, SteppedSolver, is_recorded, normalised


@dataclass(frozen=True, kw_only=True)
class CoupledNewton(SteppedSolver):
    """X = z^(1/p) I, M = z Σ with z = (p + 1)/(2 ‖Σ‖_F); repeat T = ((p + 1) I − M)/p, X = X T,
    M = Tᵖ M, until no entry of M − I is larger than `residual`; X → Σ^(-1/p).

    As in distributed Shampoo, but each matrix of the batch stops separately and is not changed
    after that. It also stops where rounding keeps its residual from halving. Shampoo's ε, without
    which an eigenvalue that rounding made negative diverges, is u ‖Σ‖_F here. `residual` 0 stands
    for 1e-6 in float32, which is Shampoo's value, and 1e-13 in float64. `steps` 0 stands for at
    most 100, which is Shampoo's value too. The check whether all matrices have ended waits for the
    host. `products` as in `QuinticSolver`.
    """

    name: ClassVar[str] = "coupled-newton"
    source: ClassVar[str] = (
        "Guo and Higham 2006, A Schur–Newton method for the matrix pth root and its inverse; "
        "Iannazzo 2006, On the Newton method for the matrix pth root; as in Shi et al. 2023, "
        "A distributed data-parallel PyTorch implementation of Shampoo"
    )
    synchronises: ClassVar[bool] = True

    USUAL: ClassVar[dict[torch.dtype, int]] = {torch.float32: 100, torch.float64: 100}
    RESIDUAL: ClassVar[dict[torch.dtype, float]] = {torch.float32: 1e-6, torch.float64: 1e-13}
    NEAR: ClassVar[float] = 0.1
    """‖M − I‖_F below which every step should square the residual. A residual that is not even
    halved there is rounding.
    """

    residual: float = 0.0
    products: str = products.FULL

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("products", self.products, products.PRECISIONS)
        if not 0 <= self.residual < 1:
            raise ValueError(
                f"residual must lie in (0, 1) (0 for the default), not {self.residual}"
            )

    @property
    def exact(self) -> bool:
        """Whether the products are full and no coarser residual was asked for."""
        return self.products == products.FULL and self.residual <= self.RESIDUAL[torch.float32]

    @property
    def inexact(self) -> str:
        """The reason why the result is inexact; empty where it is exact."""
        if self.products != products.FULL:
            return products.NARROW
        return "" if self.exact else f"ended at a residual of {self.residual:g}"

    @property
    def roots(self) -> tuple[int, ...]:
        return (2, 4)

    def iterate(self, cov: Tensor) -> Tensor:
        return self._iterate_root(cov, 2)

    def inverse_root(self, cov: Tensor, root: int = 2) -> Tensor:
        self.check_root(root)
        safe, good = isolate(cov)
        return torch.where(good, symmetric(self._iterate_root(safe, root)), torch.nan)

    def _iterate_root(self, cov: Tensor, root: int) -> Tensor:
        s, norm = normalised(cov, margin=1.0)
        eye = torch.eye(s.shape[-1], dtype=s.dtype, device=s.device)
        s = s + UNIT[s.dtype] * eye
        half = (root + 1) / 2
        m, precision = half * s, self.products
        x = (half / norm).pow(1 / root) * eye
        tolerance = self.residual or self.RESIDUAL[cov.dtype]
        residual = _residual(m, eye)
        for _ in range(self.count(cov.dtype)):
            active = ~(residual <= tolerance)  # NaN stays active and propagates to the result
            if not is_recorded(cov) and not active.any():
                break
            t = ((root + 1) * eye - m) / root
            power = products.bmm(t, t, precision)
            power = power if root == 2 else products.bmm(power, power, precision)
            x = torch.where(active, products.bmm(x, t, precision), x)
            m = torch.where(active, products.bmm(power, m, precision), m)
            previous, residual = residual, torch.where(active, _residual(m, eye), residual)
            # the largest entry says little about one eigenvalue far from 1 among many near 1
            near = torch.linalg.matrix_norm(m - eye, keepdim=True) < self.NEAR
            stuck = active & near & (residual > 0.5 * previous)
            residual = torch.where(stuck, 0.0, residual)
        return x

    def flops(self, group: int) -> float:
        """2 G³ a product, 3 products a step (counted). The fewest steps are 2, at κ = 1."""
        return self.root_flops(group)

    def root_flops(self, group: int, root: int = 2) -> float:
        """2 G³ a product; 3 products a step for the square root, 4 for the fourth (counted). The
        number of steps depends on the matrix and is taken for κ = 1e3: M grows by ((p + 1)/p)ᵖ a
        step, and 5 more steps end the iteration.
        """
        growth = root * torch.tensor((root + 1) / root).log().item()
        steps = 5 + torch.tensor(1e3 * group**0.5).log().item() / growth
        return steps * (3 if root == 2 else 4) * 2.0 * group**3


def _residual(m: Tensor, eye: Tensor) -> Tensor:
    """The largest entry of M − I, (B, 1, 1)."""
    return (m - eye).abs().amax((-2, -1), keepdim=True)
