"""The context of a call: what a layer is apart from its tensors, and what one call of it needs
beside those to differentiate.
"""

from typing import NamedTuple, TypeAlias

from torch import Tensor

from swbench.norms.distributed_statistics import Ranks
from swbench.norms.recipe import Recipe
from swbench.solvers.base import Solver

ParameterTensors: TypeAlias = "tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]"
"""γ, β and the two vectors of logits of a layer, each None where it has none."""

RunningTensors: TypeAlias = tuple[Tensor, Tensor]
"""Running batch statistics: means (g, G, 1) and covariances (g, G, G)."""


class Description(NamedTuple):
    """A whitening layer without its tensors, as it is at one moment."""

    recipe: Recipe
    channels: int
    sizes: str
    """Channels and group as text: with a symbolic batch compilers take integers to be symbols
    too.
    """
    solver: str | Solver
    """A spec, `auto`, or a solver."""
    kernels: str
    """The name of a backend, or `auto`."""
    training: bool
    """Whether batch statistics are those of the batch."""

    @property
    def solver_spec(self) -> str:
        """The solver as text: `auto`, or what `swbench.solvers.get` takes."""
        return self.solver if isinstance(self.solver, str) else self.solver.spec


class Running(NamedTuple):
    """Running batch statistics, and the share of the old value in an update."""

    mean: Tensor
    """(g, G, 1)."""
    cov: Tensor
    """(g, G, G)."""
    momentum: float


class Call(NamedTuple):
    """What one call of a layer needs besides tensors to differentiate.

    `running` is None where no batch statistics are used; `ranks` where they are those of this
    process alone, or constants.
    """

    recipe: Recipe
    solver: Solver
    running: Running | None
    training: bool
    ranks: Ranks | None = None
