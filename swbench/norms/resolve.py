"""What a whitening layer runs on: a solver and a backend, by its settings and the input."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from swbench.norms import kernels as kernel_sets
from swbench.norms.kernels.backend import Backend
from swbench.norms.tensors import statistics_dtype
from swbench.solvers.base import Solver
from swbench.solvers.choice import solver_for

RunsOn = tuple[Solver, Backend, tuple[str, str]]
"""A solver, a backend, and their names."""


@lru_cache(maxsize=4096)
def runs_on(
    solver: str | Solver,
    kernels: str,
    group: int,
    matrices: int,
    dtype: torch.dtype,
    device: torch.device,
) -> RunsOn:
    """What a layer runs on for plain tensors of `dtype` on `device`."""
    with _disable_current_modes():  # a fake tensor would not be taken by kernels
        like = torch.empty(0, dtype=dtype, device=device)
        return found(solver, kernels, group, matrices, like)


def found(solver: str | Solver, kernels: str, group: int, matrices: int, x: Tensor) -> RunsOn:
    """The same for tensors of any class like `x`."""
    chosen, name = solver_for(solver, group, matrices, statistics_dtype(x), x.device)
    backend = kernel_sets.kernels_for(x, kernels)
    return chosen, backend, (name, backend.name)
