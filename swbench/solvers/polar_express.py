"""Σ^(-1/2) and Σ^(-1/4) by the coupled iteration with the coefficients that the Polar Express
published.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

from swbench.solvers.minimax import Step
from swbench.solvers.quintic_solver import QuinticSolver

SAFETY = 1.01
"""The number by which the published code divides x in every step but the last, so that rounding
cannot put a singular value beyond the interval (Amsel et al. 2025, algorithm 1).
"""

TAYLOR: Step = (1.875, -1.25, 0.375)
"""The last step, and all after it."""

PUBLISHED: tuple[Step, ...] = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
)
"""For x in [1e-3, 1] (Amsel et al. 2025, algorithm 1)."""


@dataclass(frozen=True, kw_only=True)
class PolarExpress(QuinticSolver):
    """`QuinticSolver` with the published coefficients, made for x in [1e-3, 1] and used for every
    root.

    `steps` 0 stands for 8 in float32 and 22 in float64, where the Taylor quintics at the end lift
    smaller x. Optimisers that take five steps stop at x between 0.7 and 1.2, which is no root.
    """

    name: ClassVar[str] = "polar-express"
    source: ClassVar[str] = (
        "Amsel, Persson, Musco and Gower 2025, The Polar Express, algorithm 1, in the coupled "
        "iteration of Higham 2008, eq. 6.35"
    )

    USUAL: ClassVar[dict[torch.dtype, int]] = {torch.float32: 8, torch.float64: 22}

    steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise ValueError(f"steps must be positive (0 for the default), not {self.steps}")

    def quintics(self, dtype: torch.dtype, root: int, error: float) -> tuple[Step, ...]:
        """The published ones, whatever the interval and the error."""
        count = self.steps or self.USUAL[dtype]
        safe = tuple((a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in PUBLISHED)
        return safe[:count] + (TAYLOR,) * (count - len(PUBLISHED))
