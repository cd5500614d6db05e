"""The Cholesky factor that two solvers start from. It is computed without the host check, and
repaired where rounding made Σ indefinite.
"""

import torch
from torch import Tensor

SHIFT = {torch.float32: 1e-6, torch.float64: 1e-15}
"""Share of the trace added to the diagonal of a matrix whose factorisation broke down: a few units
of roundoff times G.
"""


def cholesky_factor(cov: Tensor) -> Tensor:
    """Lower L with L Lᵀ = Σ for symmetric `cov`, (B, G, G); NaN for a matrix that is indefinite
    beyond rounding.

    Where the factorisation breaks down, `SHIFT` times the trace is added to the diagonal of that
    matrix and the factorisation is repeated. Both factorisations are always computed, so that
    nothing waits for the outcome of the first.
    """
    factor, broke = torch.linalg.cholesky_ex(cov)
    trace = cov.diagonal(dim1=-2, dim2=-1).sum(-1).view(-1, 1, 1)
    eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    shifted, broke_again = torch.linalg.cholesky_ex(cov + (SHIFT[cov.dtype] * trace) * eye)
    factor = torch.where((broke > 0).view(-1, 1, 1), shifted, factor)
    return torch.where(((broke > 0) & (broke_again > 0)).view(-1, 1, 1), torch.nan, factor)
