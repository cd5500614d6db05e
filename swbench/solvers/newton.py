"""Σ^(-1/2) by the coupled Newton–Schulz iteration, run to convergence."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.iterative import SteppedSolver, buffers, is_recorded, normalised


@dataclass(frozen=True, kw_only=True)
class Newton(SteppedSolver):
    """Y = S, Z = I; repeat T = (3I − Z Y)/2, Y = Y T, Z = T Z; W = Z/√‖Σ‖.

    Unlike the uncoupled form it is stable: an error in Y and Z is not amplified (Higham, Functions
    of Matrices, 2008, theorem 6.12). `steps` 0 stands for 24 in float32 and 42 in float64.
    """

    name: ClassVar[str] = "newton"
    source: ClassVar[str] = "Higham 2008, Functions of Matrices, eq. 6.35"

    USUAL: ClassVar[dict[torch.dtype, int]] = {torch.float32: 24, torch.float64: 42}
    """Enough for κ = 1e6 and 1e12: a step multiplies a small √λ by 1.5, so log(κ^½ G^¼)/log 1.5
    steps bring it near 1, and five more end the iteration.
    """

    def iterate(self, cov: Tensor) -> Tensor:
        y, norm = normalised(cov)
        record = is_recorded(cov)
        z = -0.5 * y  # T of the first step, where Z is the identity
        z.diagonal(dim1=-2, dim2=-1).add_(1.5)
        y = torch.bmm(y, z)
        t, spare = buffers(y, 2)
        for _ in range(self.count(cov.dtype) - 1):
            t = None if record else t
            t = torch.bmm(z, y, out=t)
            t = t.mul_(-0.5) if not record else t * -0.5
            t.diagonal(dim1=-2, dim2=-1).add_(1.5)
            y, spare = torch.bmm(y, t, out=spare), None if record else y
            z, spare = torch.bmm(t, z, out=spare), None if record else z
        return z * norm.rsqrt()

    def flops(self, group: int) -> float:
        """2 G³ a product: 1 in the first step, 3 in each later one (counted; float32)."""
        return (3 * self.count(torch.float32) - 2) * 2.0 * group**3
