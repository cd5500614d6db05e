"""Σ^(-1/2) by one singular value decomposition after the other, as the code behind the paper's
tables did it in 2019.
"""

from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.svd import Svd


@dataclass(frozen=True, kw_only=True)
class SvdLoop(Svd):
    """A Python loop over the batch, of which the paper's GPU times consist (72 matrices an image at
    about 5 ms each).
    """

    name: ClassVar[str] = "svd-loop"
    source: ClassVar[str] = "torch.linalg.svd, one matrix at a time"

    def in_torch(self) -> Svd:
        """`svd` of all matrices at once: a trace would keep a loop of the length that it saw."""
        return Svd(**{field.name: getattr(self, field.name) for field in fields(Svd)})

    def decompose(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        if not len(cov):
            return cov.new_empty(cov.shape[:-1]), cov
        one_by_one = super().decompose
        lam, d = zip(*(one_by_one(matrix) for matrix in cov), strict=True)
        return torch.stack(lam), torch.stack(d)
