"""Σ^(-1/2) by the coupled minimax quintic: the polar iteration of Σ^(1/2) with the best polynomial
for what each step leaves.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.iterative import IterativeSolver, buffers, normalised, quintics, recorded


@dataclass(frozen=True, kw_only=True)
class Polar(IterativeSolver):
    """Y = S, Z = I; repeat M = Z Y, H = aI + bM + cM², Y = Y H, Z = H Z; then one cubic step; W =
    Z/√‖Σ‖.

    With x = √λ of the normalised S every step multiplies x by p(x²), so Y → S^(1/2) and Z →
    S^(-1/2) while M → I. The coefficients are computed for √λ in [`low`, 1]
    (`swbench.solvers.minimax`), with `steps` of them; 0 leaves both to the dtype: 7 steps and 28
    products of G³ in float32. Branch-free; beyond κ = `low`⁻² it under-whitens and does not
    diverge.
    """

    name: ClassVar[str] = "polar"
    source: ClassVar[str] = (
        "coupled iteration of Higham 2008, eq. 6.35, with the minimax quintics "
        "of Amsel et al. 2025, from swbench.solvers.minimax"
    )

    low: float = 0.0
    steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.low < 1 or self.steps < 0:
            raise ValueError(
                "low must lie in (0, 1) and steps be positive (0 for the default), "
                f"not {self.low} and {self.steps}"
            )

    def iterate(self, cov: Tensor) -> Tensor:
        s, norm = normalised(cov)
        record = recorded(cov)
        (a, b, c), *later = quintics(cov.dtype, self.low, self.steps)
        # H of the first step, where M = Y = S and Z = I
        z = torch.baddbmm(s, s, s, beta=b, alpha=c)
        z.diagonal(dim1=-2, dim2=-1).add_(a)
        y = torch.bmm(s, z)
        m, h, spare = buffers(s, 3)
        for a, b, c in later:
            m = torch.bmm(z, y, out=m)
            h = torch.baddbmm(m, m, m, beta=b, alpha=c, out=h)
            h.diagonal(dim1=-2, dim2=-1).add_(a)
            y, spare = torch.bmm(y, h, out=spare), None if record else y
            z, spare = torch.bmm(h, z, out=spare), None if record else z
            if record:
                m = h = None
        m = torch.bmm(z, y, out=m)
        return torch.baddbmm(z, m, z, beta=1.5, alpha=-0.5, out=h) * norm.rsqrt()

    def flops(self, group: int) -> float:
        """2 G³ a product: 2 in the first quintic, 4 in each later one, 2 in the cubic (counted;
        float32).
        """
        products = 4 * len(quintics(torch.float32, self.low, self.steps))
        return products * 2.0 * group**3
