"""Σ^(-1/2) by the coupled minimax quintic: the polar iteration of Σ^(1/2) with the best polynomial
for the interval that each step leaves.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from swbench.solvers.iterative import LOW
from swbench.solvers.minimax import Step, schedule, steps_needed
from swbench.solvers.products import FULL
from swbench.solvers.quintic_solver import QuinticSolver

NARROW_LOW = 0.1
"""The default `low` where products are in bfloat16. Steps for a wider interval are so steep at its
upper end that rounding there makes them diverge: with 1e-3 already at κ = 1e2 (measured).
"""


@dataclass(frozen=True, kw_only=True)
class Polar(QuinticSolver):
    """`QuinticSolver` with the coefficients computed for √λ of the normalised Σ in [`low`, 1]
    (`swbench.solvers.minimax`).

    `steps` is the number of quintics. 0 leaves `low` and `steps` to the dtype: 7 steps and 28
    products of G³ in float32. The iteration has no branches. Beyond κ = `low`⁻² it under-whitens
    and does not diverge.
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

    def quintics(self, dtype: torch.dtype, root: int, error: float) -> tuple[Step, ...]:
        """The best ones for λ^(1/2) in [`low`, 1]; λ^(1/4) then lies in [√`low`, 1]."""
        low = self.low or (LOW[dtype] if self.products == FULL else NARROW_LOW)
        low = low if root == 2 else low**0.5
        return schedule(low, self.steps or steps_needed(low, error))[0]
