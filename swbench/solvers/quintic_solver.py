"""The coupled iteration with any odd quintics, for Σ^(-1/2), and composed with itself for
Σ^(-1/4).
"""

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from swbench.solvers import products
from swbench.solvers.base import isolate, one_of, symmetric
from swbench.solvers.iterative import UNIT, IterativeSolver, buffers, is_recorded, normalised
from swbench.solvers.minimax import Step


@dataclass(frozen=True, kw_only=True)
class QuinticSolver(IterativeSolver):
    """Y = S, Z = I; repeat M = Z Y, H = aI + bM + cM², Y = Y H, Z = H Z; then one cubic step; W =
    Z/√‖Σ‖.

    With x = √λ of the normalised S every step multiplies x by p(x²), so Y → S^(1/2) and Z →
    S^(-1/2) while M → I (Higham 2008, eq. 6.35). For the fourth root Y goes through the iteration
    again, with the quintics of its own interval. `products` is `full` or `bfloat16`
    (`swbench.solvers.products`), which is not exact.
    """

    products: str = products.FULL

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("products", self.products, products.PRECISIONS)

    @abstractmethod
    def quintics(self, dtype: torch.dtype, root: int, error: float) -> tuple[Step, ...]:
        """(a, b, c) of each step. All steps together take x = λ^(1/root) of the normalised Σ to
        within `error` of 1.
        """

    @property
    def exact(self) -> bool:
        """Whether the products are full."""
        return self.products == products.FULL

    @property
    def inexact(self) -> str:
        """A description of the error of bfloat16 products; empty for full ones."""
        return "" if self.exact else products.NARROW

    @property
    def roots(self) -> tuple[int, ...]:
        return (2, 4)

    def iterate(self, cov: Tensor) -> Tensor:
        s, norm = normalised(cov)
        y, z = self._coupled(s, self.quintics(s.dtype, 2, UNIT[s.dtype]))
        return self._cubic_step(z, y, z) * norm.rsqrt()

    def inverse_root(self, cov: Tensor, root: int = 2) -> Tensor:
        self.check_root(root)
        safe, good = isolate(cov)
        s, norm = normalised(safe)
        for order in range(2, root, 2):
            y, z = self._coupled(s, self._short(s.dtype, order))
            s = symmetric(self._cubic_step(y, y, z))  # S^(1/2)
        y, z = self._coupled(s, self._short(s.dtype, root))
        x = self._cubic_step(z, y, z) * norm.pow(-1 / root)
        return torch.where(good, symmetric(x), torch.nan)

    def _short(self, dtype: torch.dtype, root: int) -> tuple[Step, ...]:
        """The quintics that the root alone needs: fewer, because the final cubic squares their
        error. A gradient needs all.
        """
        return self.quintics(dtype, root, UNIT[dtype] ** 0.5)

    def _coupled(self, s: Tensor, steps: tuple[Step, ...]) -> tuple[Tensor, Tensor]:
        """Y and Z after all `steps`."""
        record, precision = is_recorded(s), self.products
        (a, b, c), *later = steps
        # H of the first step, where M = Y = S and Z = I
        z = products.baddbmm(s, s, s, beta=b, alpha=c, precision=precision)
        z.diagonal(dim1=-2, dim2=-1).add_(a)
        y = products.bmm(s, z, precision)
        m, h, spare = buffers(s, 3)
        for a, b, c in later:
            m = products.bmm(z, y, precision, out=m)
            h = products.baddbmm(m, m, m, beta=b, alpha=c, precision=precision, out=h)
            h.diagonal(dim1=-2, dim2=-1).add_(a)
            y, spare = products.bmm(y, h, precision, out=spare), None if record else y
            z, spare = products.bmm(h, z, precision, out=spare), None if record else z
            if record:
                m = h = None
        return y, z

    def _cubic_step(self, what: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """`what`, Y or Z, after the cubic step."""
        m = products.bmm(z, y, self.products)
        return products.baddbmm(what, m, what, beta=1.5, alpha=-0.5, precision=self.products)

    def flops(self, group: int) -> float:
        """2 G³ a product: 2 in the first quintic, 4 in each later one, 2 in the cubic (counted;
        float32).
        """
        return 4 * len(self.quintics(torch.float32, 2, UNIT[torch.float32])) * 2.0 * group**3

    def root_flops(self, group: int, root: int = 2) -> float:
        """As `flops`, for the fewer steps that do without a gradient, once for each square root."""
        steps = sum(len(self._short(torch.float32, order)) for order in range(2, root + 1, 2))
        return 4 * steps * 2.0 * group**3

    def least_flops(self, group: int, root: int = 2) -> float:
        """All operations, because the number of steps is fixed."""
        return self.root_flops(group, root)
