"""Accuracy of a batch of whitening matrices and gradients, against float64 on the same matrices
that the solver got.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from swbench.result import Measurement
from swbench.solvers.eigen_backward import daleckii_krein

CHUNK = 1024
"""Matrices compared at a time, which bounds the oracle's memory."""


def accuracy(cov: Tensor, w: Tensor, grad_w: Tensor, grad: Tensor) -> list[Measurement]:
    """Errors of `w` = W and `grad` = ∂L/∂Σ, which a solver computed from `cov` = Σ and `grad_w` =
    ∂L/∂W; all (B, G, G) on any device.

    - `whitening_residual_worst`, `_median`: ‖W Σ Wᵀ − I‖_F of a matrix.
    - `w_error_worst`, `_median`: ‖W − W₆₄‖_F/‖W₆₄‖_F with W₆₄ = Σ^(-1/2) from float64 eigenvectors.
    - `gradient_error_worst`, `_median`: the same for ∂L/∂Σ against Daleckii–Krein in float64.
    - `w_nonfinite_share`, `gradient_nonfinite_share`: the share of matrices with an entry that is
      not finite.

    Worst and median are over the matrices with finite results; without such a matrix there is no
    sample. All have unit `1`.
    """
    parts = [_errors(*chunk) for chunk in _chunks(cov, w, grad_w, grad)]
    residual, w_error, gradient_error = (torch.cat(values) for values in zip(*parts, strict=True))
    measurements = (
        worst_and_median("whitening_residual", residual)
        + worst_and_median("w_error", w_error)
        + worst_and_median("gradient_error", gradient_error)
    )
    shares = {"w_nonfinite_share": w_error, "gradient_nonfinite_share": gradient_error}
    return measurements + [
        Measurement(name, "1", (1.0 - values.isfinite().double().mean().item(),))
        for name, values in shares.items()
    ]


def _chunks(*batches: Tensor) -> Iterator[tuple[Tensor, ...]]:
    for start in range(0, len(batches[0]), CHUNK):
        yield tuple(batch[start : start + CHUNK].detach().cpu().double() for batch in batches)


def _errors(cov: Tensor, w: Tensor, grad_w: Tensor, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    lam, d = torch.linalg.eigh(cov)
    lam = lam.clamp_min(torch.finfo(lam.dtype).tiny)
    exact = (d * lam.rsqrt().unsqueeze(-2)) @ d.mT
    eye = torch.eye(cov.shape[-1], dtype=cov.dtype)
    return (
        torch.linalg.matrix_norm(w @ cov @ w.mT - eye),
        relative_error(w, exact),
        relative_error(grad, daleckii_krein(lam, d, grad_w)),
    )


def relative_error(value: Tensor, exact: Tensor) -> Tensor:
    """‖value − exact‖_F/‖exact‖_F of every matrix."""
    return torch.linalg.matrix_norm(value - exact) / torch.linalg.matrix_norm(exact)


def worst_and_median(name: str, values: Tensor) -> list[Measurement]:
    """`<name>_worst` and `<name>_median` over the finite values."""
    finite = values[values.isfinite()]
    worst, median = ((finite.max().item(),), (finite.median().item(),)) if len(finite) else ((), ())
    return [Measurement(f"{name}_worst", "1", worst), Measurement(f"{name}_median", "1", median)]
