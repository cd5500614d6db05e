"""Σ^(-1/2) by LAPACK on every core: the batch in as many parts as torch has threads."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.eigh import Eigh


@dataclass(frozen=True, kw_only=True)
class EighThreads(Eigh):
    """`eigh` in several threads, for a CPU. `eigh` goes through a batch one matrix after the other;
    here each thread takes a part of the batch. LAPACK is the same, but may round differently where
    a matrix lies elsewhere in memory.
    """

    name: ClassVar[str] = "eigh-threads"
    source: ClassVar[str] = "LAPACK syevd through torch.linalg.eigh, in threads over the batch"

    def decompose(self, cov: Tensor) -> tuple[Tensor, Tensor]:
        threads = min(torch.get_num_threads(), len(cov))
        if threads < 2:
            return super().decompose(cov)
        # torch releases Python's lock while LAPACK works
        parts = list(_pool(threads).map(torch.linalg.eigh, cov.tensor_split(threads)))
        return torch.cat([lam for lam, _ in parts]), torch.cat([d for _, d in parts])

    def in_torch(self) -> Eigh:
        return Eigh(**{field.name: getattr(self, field.name) for field in fields(Eigh)})

    def available(self, device: str | torch.device) -> str | None:
        if not str(device).startswith("cpu"):
            return f"eigh-threads runs on a CPU, not on {device}: use eigh"
        return None


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    """A cached pool of threads: starting a thread costs as much as several small matrices."""
    return ThreadPoolExecutor(threads, thread_name_prefix="eigh")
