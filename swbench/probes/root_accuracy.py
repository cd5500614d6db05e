"""How exact roots are, judged in float64 on the very matrices the solver was given, and by what
they do to a gradient.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from swbench.probes.accuracy import relative, summary
from swbench.result import Measurement

GRADIENTS = 8
"""Columns of a gradient for each matrix."""

SEED = 2


class Oracle:
    """Eigenvalues and eigenvectors of `cov`, (B, G, G), in float64, on the host.

    `gradients` are g = Σ^(1/2) z, (B, G, `GRADIENTS`), with z standard normal: Σ is their second
    moment, as in Shampoo, where it is the sum of the gradients' own.
    """

    def __init__(self, cov: Tensor) -> None:
        found = [torch.linalg.eigh(one.detach().cpu().double()) for one in cov]
        self.lam = torch.stack([lam for lam, _ in found])
        self.lam.clamp_min_(torch.finfo(torch.float64).tiny)
        self.d = torch.stack([d for _, d in found])
        generator = torch.Generator().manual_seed(SEED)
        shape = (*cov.shape[:2], GRADIENTS)
        z = torch.randn(shape, dtype=torch.float64, generator=generator)
        self.gradients = self.d @ (self.lam.sqrt().unsqueeze(-1) * z)

    def power(self, at: int, exponent: float) -> Tensor:
        """Σ^exponent of matrix `at`."""
        d = self.d[at]
        return (d * self.lam[at] ** exponent) @ d.mT


def root_accuracy(
    oracles: Sequence[Oracle], covs: Sequence[Tensor], found: Sequence[Tensor], root: int
) -> list[Measurement]:
    """Errors of X = `found`, what came out as Σ^(-1/root) for `covs`: a batch (B, G, G) of each
    size.

    - `root_residual_worst`, `_median`: ‖X^root Σ − I‖_F of a matrix.
    - `w_error_worst`, `_median`: ‖X − X₆₄‖_F/‖X₆₄‖_F with X₆₄ from float64 eigenvectors.
    - `preconditioned_error_worst`, `_median`: ‖(X − X₆₄) g‖_F/‖X₆₄ g‖_F for gradients g.
    - `w_nonfinite_share`: the share of matrices with an entry that is not finite.

    Worst and median are over the matrices of all sizes with finite results. All are unit `1`.
    """
    rows = [
        _judged(one, at, cov[at], x[at], root)
        for one, cov, x in zip(oracles, covs, found, strict=True)
        for at in range(len(cov))
    ]
    residual, error, preconditioned = (torch.stack(values) for values in zip(*rows, strict=True))
    return [
        *summary("root_residual", residual),
        *summary("w_error", error),
        *summary("preconditioned_error", preconditioned),
        Measurement("w_nonfinite_share", "1", (1.0 - error.isfinite().double().mean().item(),)),
    ]


def _judged(
    oracle: Oracle, at: int, cov: Tensor, x: Tensor, root: int
) -> tuple[Tensor, Tensor, Tensor]:
    cov, x = cov.detach().cpu().double(), x.detach().cpu().double()
    exact, g = oracle.power(at, -1 / root), oracle.gradients[at]
    residual = torch.linalg.matrix_power(x, root) @ cov
    residual.diagonal().sub_(1)
    return torch.linalg.matrix_norm(residual), relative(x, exact), relative(x @ g, exact @ g)
