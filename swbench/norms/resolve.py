"""The choice of solver and backend for a whitening layer, by its settings and input."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from swbench.norms import kernels as kernel_sets
from swbench.norms.kernels.backend import Backend
from swbench.norms.tensors import statistics_dtype
from swbench.solvers.base import Solver
from swbench.solvers.choice import solver_for

Resolved = tuple[Solver, Backend, tuple[str, str]]
"""A solver, a backend, and the names of both."""


@lru_cache(maxsize=4096)
def resolve_cached(
    solver: str | Solver,
    kernels: str,
    group: int,
    matrices: int,
    dtype: torch.dtype,
    device: torch.device,
) -> Resolved:
    """Solver and backend for plain tensors of `dtype` on `device`, cached."""
    with _disable_current_modes():  # kernels do not take a fake tensor
        like = torch.empty(0, dtype=dtype, device=device)
        return resolve(solver, kernels, group, matrices, like)


def resolve(solver: str | Solver, kernels: str, group: int, matrices: int, x: Tensor) -> Resolved:
    """Solver and backend for tensors like `x`, of any class."""
    chosen, name = solver_for(solver, group, matrices, statistics_dtype(x), x.device)
    backend = kernel_sets.kernels_for(x, kernels)
    return chosen, backend, (name, backend.name)
