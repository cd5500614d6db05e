"""Accuracy of inverse roots, against float64 on the same matrices that the solver got: errors of
the roots, and of gradients that they precondition.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from swbench.probes.accuracy import relative_error, worst_and_median
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
        eigenpairs = [torch.linalg.eigh(matrix.detach().cpu().double()) for matrix in cov]
        self.lam = torch.stack([lam for lam, _ in eigenpairs])
        self.lam.clamp_min_(torch.finfo(torch.float64).tiny)
        self.d = torch.stack([d for _, d in eigenpairs])
        generator = torch.Generator().manual_seed(SEED)
        shape = (*cov.shape[:2], GRADIENTS)
        z = torch.randn(shape, dtype=torch.float64, generator=generator)
        self.gradients = self.d @ (self.lam.sqrt().unsqueeze(-1) * z)

    def power(self, index: int, exponent: float) -> Tensor:
        """Σ^exponent of matrix `index`."""
        d = self.d[index]
        return (d * self.lam[index] ** exponent) @ d.mT


def root_accuracy(
    oracles: Sequence[Oracle], covs: Sequence[Tensor], computed: Sequence[Tensor], root: int
) -> list[Measurement]:
    """Errors of X = `computed`, a solver's Σ^(-1/root) of `covs`; both hold a batch (B, G, G) for
    each size.

    - `root_residual_worst`, `_median`: ‖X^root Σ − I‖_F of a matrix.
    - `w_error_worst`, `_median`: ‖X − X₆₄‖_F/‖X₆₄‖_F with X₆₄ from float64 eigenvectors.
    - `preconditioned_error_worst`, `_median`: ‖(X − X₆₄) g‖_F/‖X₆₄ g‖_F for gradients g.
    - `w_nonfinite_share`: the share of matrices with an entry that is not finite.

    Worst and median are over the matrices of all sizes with finite results. All are unit `1`.
    """
    rows = [
        _errors(oracle, index, cov[index], x[index], root)
        for oracle, cov, x in zip(oracles, covs, computed, strict=True)
        for index in range(len(cov))
    ]
    residual, error, preconditioned = (torch.stack(values) for values in zip(*rows, strict=True))
    return [
        *worst_and_median("root_residual", residual),
        *worst_and_median("w_error", error),
        *worst_and_median("preconditioned_error", preconditioned),
        Measurement("w_nonfinite_share", "1", (1.0 - error.isfinite().double().mean().item(),)),
    ]


def _errors(
    oracle: Oracle, index: int, cov: Tensor, x: Tensor, root: int
) -> tuple[Tensor, Tensor, Tensor]:
    cov, x = cov.detach().cpu().double(), x.detach().cpu().double()
    exact, g = oracle.power(index, -1 / root), oracle.gradients[index]
    residual = torch.linalg.matrix_power(x, root) @ cov
    residual.diagonal().sub_(1)
    return (
        torch.linalg.matrix_norm(residual),
        relative_error(x, exact),
        relative_error(x @ g, exact @ g),
    )
