"""Five uncoupled Newton steps: the method of the public Switchable Whitening code, with which its
checkpoints were trained.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.base import Saved, Solver, isolate, symmetric


@dataclass(frozen=True, kw_only=True)
class Newton5(Solver):
    """P ← (3P − P³S)/2 from P = I, `steps` times, with S = Σ/tr Σ; W = P/√tr Σ (Huang et al. 2019,
    Iterative Normalization, eq. 7).

    The result is not Σ^(-1/2). Five steps leave the variance of white input at 0.97 for G = 16,
    0.82 for 32, 0.59 for 64. More steps diverge in rounding above κ = 9, because P and S stop
    commuting (Higham, Functions of Matrices, 2008, §6.4). The gradient is the exact gradient of
    these steps, the same that autograd gave the public code.
    """

    name: ClassVar[str] = "newton5"
    source: ClassVar[str] = (
        "public code of Pan et al. 2019; Iterative Normalization, Huang et al. 2019"
    )
    exact: ClassVar[bool] = False
    inexact: ClassVar[str] = "five steps, not converged"

    steps: int = 5

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, not {self.steps}")

    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        safe, good = isolate(cov)
        inverse_trace = safe.diagonal(dim1=-2, dim2=-1).sum(-1).reciprocal().view(-1, 1, 1)
        s = safe * inverse_trace
        p = torch.eye(s.shape[-1], dtype=s.dtype, device=s.device).expand_as(s)
        iterates = []
        for _ in range(self.steps):
            iterates.append(p)
            cube = torch.bmm(torch.bmm(p, p), p) if len(iterates) > 1 else p
            p = torch.baddbmm(p, cube, s, beta=1.5, alpha=-0.5)
        w = torch.where(good, symmetric(p) * inverse_trace.sqrt(), torch.nan)
        return w, (w, s, inverse_trace, *iterates[1:])

    def gradient(self, saved: Saved, grad_w: Tensor) -> Tensor:
        """The adjoint of each step P' = 1.5 P − 0.5 P³S, from the last to the first, then of the
        two uses of the trace.
        """
        w, s, inverse_trace, *iterates = saved
        grad_w = symmetric(grad_w)
        grad_p = grad_w * inverse_trace.sqrt()
        grad_s = torch.zeros_like(s)
        for p in reversed(iterates):
            square = torch.bmm(p, p)
            grad_s.baddbmm_(torch.bmm(square, p).mT, grad_p, alpha=-0.5)
            right = torch.bmm(grad_p, s)  # S is symmetric
            cube = torch.bmm(right, square.mT)
            cube.baddbmm_(torch.bmm(p.mT, right), p.mT).baddbmm_(square.mT, right)
            grad_p = 1.5 * grad_p - 0.5 * cube
        grad_s.add_(grad_p, alpha=-0.5)  # the first step, from P = I
        along = (grad_s * s).sum((-2, -1), keepdim=True) + 0.5 * (grad_w * w).sum(
            (-2, -1), keepdim=True
        )
        eye = torch.eye(s.shape[-1], dtype=s.dtype, device=s.device)
        return inverse_trace * (symmetric(grad_s) - along * eye)

    def flops(self, group: int) -> float:
        """2 G³ a product: 1 in the first step, 3 in each later one (counted)."""
        return (3 * self.steps - 2) * 2.0 * group**3
