"""The context of a call: a layer without its tensors, and what the backward pass of one call needs
beside tensors.
"""

from typing import NamedTuple, TypeAlias

from torch import Tensor

from swbench.norms.distributed_statistics import Ranks
from swbench.norms.recipe import Recipe
from swbench.solvers.base import Solver

ParameterTensors: TypeAlias = "tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]"
"""γ, β, the logits of the means and those of the covariances; each None where a layer has none."""

RunningTensors: TypeAlias = tuple[Tensor, Tensor]
"""Running batch statistics: means (g, G, 1) and covariances (g, G, G)."""


class Description(NamedTuple):
    """A whitening layer without its tensors, as it is at one moment."""

    recipe: Recipe
    channels: int
    sizes: str
    """Channels and group as text: with a symbolic batch, compilers take integers for symbols too.
    """
    solver: str | Solver
    """A spec, `auto`, or a `Solver`."""
    kernels: str
    """The name of a backend, or `auto`."""
    training: bool
    """Whether batch statistics are taken from the batch, and not from the running ones."""

    @property
    def solver_spec(self) -> str:
        """The solver as text: `auto`, or a spec for `swbench.solvers.get`."""
        return self.solver if isinstance(self.solver, str) else self.solver.spec


class Running(NamedTuple):
    """Running batch statistics, and the weight of the old value in an update."""

    mean: Tensor
    """(g, G, 1)."""
    cov: Tensor
    """(g, G, G)."""
    momentum: float


class Call(NamedTuple):
    """The non-tensor inputs of one call of a layer, forward and backward.

    `running` is None where no batch statistics are used. `ranks` is None where batch statistics are
    those of this process alone, or constants.
    """

    recipe: Recipe
    solver: Solver
    running: Running | None
    training: bool
    ranks: Ranks | None = None
