"""The analytic cost of Σ^(-1/2) by a solver's own formula: a column of its own, part of no rule's
count.
"""

from swbench import solvers
from swbench.errors import UnknownName


def solver_flops(spec: str, group: int, matrices: int) -> float:
    """Floating-point operations, forward, for `matrices` of `group`×`group` by the solver that
    `spec` describes.

    `Solver.flops` names the source of each formula in its docstring (eigh: about 9 G³ for the
    decomposition and 2 G³ + G² for W). Raises UnknownName or OptionError for a spec that describes
    none; `auto` is such a spec, because its choice depends on the machine.
    """
    if spec.partition(":")[0] == "auto":
        raise UnknownName(
            "solver", spec, solvers.names(), "a FLOP count, which needs the solver itself"
        )
    return solvers.get(spec).flops(group) * matrices
