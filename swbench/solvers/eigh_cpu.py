"""Σ^(-1/2) by LAPACK on the host, wherever the matrices are. Its time includes the copies to the
host and back.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.eigh import Eigh


@dataclass(frozen=True, kw_only=True)
class EighCpu(Eigh):
    """Matrices go to the host, eigenvalues and eigenvectors come back; W and the gradient are
    formed on the device.

    Useful on a GPU above G = 32, where cuSOLVER's `eigh` loops over the batch. On a CPU it is
    `eigh`.
    """

    name: ClassVar[str] = "eigh-cpu"
    source: ClassVar[str] = "LAPACK syevd on the host through torch.linalg.eigh"

    def decompose(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        lam, d = torch.linalg.eigh(cov.cpu())
        return lam.to(cov.device), d.to(cov.device)

    def transferred_bytes(self, cov: Tensor) -> int:
        """The bytes of the matrices to the host, and of their eigenvectors and eigenvalues back; 0
        where `cov` is on the host already.
        """
        if cov.device.type == "cpu":
            return 0
        return (2 * cov.numel() + cov.numel() // cov.shape[-1]) * cov.element_size()
