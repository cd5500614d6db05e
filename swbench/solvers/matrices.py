"""Batches of small square matrices: their symmetric part, and the protection of a batch from one
bad matrix.
"""

import torch
from torch import Tensor


def isolate(cov: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric part of `cov` with the identity in place of every matrix that is not finite,
    and the mask (B, 1, 1) of the good ones.

    LAPACK and cuSOLVER raise for a whole batch because of one such matrix; a check on the host
    would synchronise. Write NaN back into the bad ones with `torch.where(good, w, nan)`. A matrix
    whose entries overflow when summed counts as not finite.
    """
    good = torch.isfinite(cov.sum((-2, -1), keepdim=True))
    eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    return torch.where(good, symmetric(cov), eye), good


def symmetric(matrix: Tensor) -> Tensor:
    """Half the sum of a matrix and its transpose."""
    return 0.5 * (matrix + matrix.mT)
