"""`inverse_sqrt`: the solvers as one function."""

from torch import Tensor

from swbench import solvers


def inverse_sqrt(cov: Tensor, solver: str = "eigh", **options: object) -> Tensor:
    """Σ^(-1/2) of `cov`, (B, G, G) or (G, G), by the named solver; differentiable.

    `options` go to the solver (`backward="paper"`, say). Raises UnknownName, OptionError, or
    ValueError for a wrong shape.
    """
    return solvers.get(solver, **options)(cov)
