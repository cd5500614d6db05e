"""Σ^(-1/2) by one-sided Jacobi rotations of the Cholesky factor, a whole batch and all disjoint
pairs at a time.
"""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.cholesky_factor import cholesky_factor
from swbench.solvers.cuda_capture import refuse_in_capture
from swbench.solvers.spectral_solver import SpectralSolver

HOST = torch.device("cpu")


def sweeps_needed(dtype: torch.dtype, group: int) -> int:
    """The number of sweeps: 3 + ⌊log₂ G⌋, and three more in float64. That is one more than the
    worst of 200 matrices of every spectrum needed at G = 4 … 64 (measured).

    Clusters of equal eigenvalues converge only linearly below the roundoff of float32: they end at
    1e-8 in float64.
    """
    return 2 + group.bit_length() + 3 * (dtype == torch.float64)


@dataclass(frozen=True, kw_only=True)
class Jacobi(SpectralSolver):
    """Σ = L Lᵀ; rotations from the right make the columns of L orthogonal: L V = D Λ^(1/2), so V is
    never formed.

    Pairs follow the round-robin tournament, G/2 disjoint pairs at a time; an odd G gets a zero
    column. Eigenvalues come out to high relative accuracy, as one-sided Jacobi on a triangular
    factor does (Demmel and Veselić 1992). `sweeps` 0 stands for `sweeps_needed`: 7 at G = 16 in
    float32.
    """

    name: ClassVar[str] = "jacobi"
    source: ClassVar[str] = (
        "Veselić and Hari 1989; rotations of Golub and Van Loan, Matrix "
        "Computations, 4th ed., §8.6.3; Brent and Luk 1985 (ordering)"
    )

    sweeps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sweeps < 0:
            raise ValueError(f"sweeps must be positive (0 for the default), not {self.sweeps}")

    def decompose(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        size = int(cov.shape[-1])  # a tensor while torch.jit.trace records
        # (column, component, matrix): sums then run over whole vectors of the batch
        columns = cholesky_factor(cov).permute(2, 1, 0)
        if size % 2:
            columns = torch.cat([columns, torch.zeros_like(columns[:1])])
        columns = columns.contiguous()
        half = len(columns) // 2
        sweeps = self.sweeps or sweeps_needed(cov.dtype, size)
        turn = _turn(half, cov.device)
        for _ in range(sweeps * (2 * half - 1)):
            columns = _rotate(columns[:half], columns[half:]).index_select(0, turn)
        columns = columns.permute(2, 1, 0).contiguous()
        lam = columns.square().sum(-2)
        if size % 2:  # the column that was added is still zero: drop it
            keep = lam.argsort(-1, descending=True)[..., :size]
            lam = lam.gather(-1, keep)
            columns = columns.gather(-1, keep.unsqueeze(-2).expand(-1, size, -1))
        return lam, columns * lam.rsqrt().unsqueeze(-2)

    def flops(self, group: int) -> float:
        """A rotation costs 12 G (three inner products, two combinations), G(G − 1)/2 of them a
        sweep; G³/3 for the factor, 2 G³ for W (float32).
        """
        sweeps = self.sweeps or sweeps_needed(torch.float32, group)
        return sweeps * 6.0 * group**2 * (group - 1) + 7 / 3 * group**3


@cache
def _turn(half: int, device: torch.device = HOST) -> Tensor:
    """The next line-up of a round robin: the first player stays, all others move on by one place
    around the table.

    Cached for good: copying it to a GPU in every call would break the capture of a graph, and a
    captured graph reads this memory in each replay. Raises RuntimeError while a graph is captured.
    """
    refuse_in_capture(device, "the line-ups of the rotations")
    ring = [*range(1, half), *range(2 * half - 1, half - 1, -1)]
    ring = [ring[-1], *ring[:-1]]
    return torch.tensor([0, *ring[: half - 1], *reversed(ring[half - 1 :])], device=device)


def _rotate(left: Tensor, right: Tensor) -> Tensor:
    """Each pair of columns, (half, G, B), rotated until orthogonal; both halves in one tensor.

    t = sign(ζ)/(|ζ| + √(1 + ζ²)) with ζ = (β − α)/(2γ), written without the quotient that is 0/0
    for a pair already orthogonal.
    """
    alpha, beta, gamma = left.square().sum(1), right.square().sum(1), (left * right).sum(1)
    delta = beta - alpha
    root = torch.sqrt(delta.square() + 4 * gamma.square())
    denominator = delta.abs() + root
    t = torch.where(
        denominator > 0, 2 * gamma * torch.where(delta < 0, -1.0, 1.0) / denominator, 0.0
    )
    cos = torch.rsqrt(1 + t.square())
    cos, sin = cos.unsqueeze(1), (cos * t).unsqueeze(1)
    return torch.cat([cos * left - sin * right, sin * left + cos * right])
