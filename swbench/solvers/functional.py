"""`inverse_sqrt` and `inverse_root`: the solvers as functions."""

import torch
from torch import Tensor

from swbench import solvers
from swbench.solvers.choice import AUTO, choose


def inverse_sqrt(cov: Tensor, solver: str = "eigh", **options: object) -> Tensor:
    """Σ^(-1/2) of `cov`, (B, G, G) or (G, G), by the named solver; differentiable.

    `options` go to the solver (`backward="paper"`, say). Raises UnknownName, OptionError, or
    ValueError for a wrong shape.
    """
    return solvers.get(solver, **options)(cov)


def inverse_root(cov: Tensor, p: int = 2, solver: str = "eigh", **options: object) -> Tensor:
    """Σ^(-1/p) of `cov`, (B, G, G) or (G, G), for p = 2 or 4, by the named solver; differentiable
    for p = 2 alone, where it is `inverse_sqrt`.

    `auto` is the fastest exact solver of a measured table for such a batch, without a gradient
    unless `cov` requires one. `options` go to the solver (`products="bfloat16"`, say). Raises
    UnknownName or OptionError, and ValueError for a wrong shape, for a root that the solver does
    not give, and for p = 4 where `cov` requires a gradient.
    """
    method = solvers.get(_chosen(cov, p) if solver == AUTO else solver, **options)
    method.check_root(p)
    if p == 2:
        return method(cov)
    method.check(cov)
    if cov.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"inverse_root has no gradient for p = {p}; give it cov.detach(), or use p = 2"
        )
    flat = cov.reshape(cov.shape[:-2].numel(), *cov.shape[-2:])
    return method.inverse_root(flat, p).reshape(cov.shape)


def _chosen(cov: Tensor, p: int) -> str:
    gradient = p == 2 and cov.requires_grad and torch.is_grad_enabled()
    batch = cov.shape[:-2].numel()
    return choose(cov.device, cov.shape[-1], batch, cov.dtype, p, gradient)
