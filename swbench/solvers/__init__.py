"""Solvers by name. To add one: a file with a `Solver` subclass, and a line in this table."""

from typing import TYPE_CHECKING

from swbench.errors import OptionError
from swbench.registry import Registry

if TYPE_CHECKING:
    from swbench.solvers.base import Solver

TABLE = Registry(
    "solver",
    {
        "eigh": "swbench.solvers.eigh:Eigh",
        "eigh-threads": "swbench.solvers.eigh_threads:EighThreads",
        "svd": "swbench.solvers.svd:Svd",
        "svd-loop": "swbench.solvers.svd_loop:SvdLoop",
        "newton5": "swbench.solvers.newton5:Newton5",
        "newton": "swbench.solvers.newton:Newton",
        "polar": "swbench.solvers.polar:Polar",
        "polar-express": "swbench.solvers.polar_express:PolarExpress",
        "coupled-newton": "swbench.solvers.coupled_newton:CoupledNewton",
        "denman-beavers": "swbench.solvers.denman_beavers:DenmanBeavers",
        "pade": "swbench.solvers.pade:Pade",
        "jacobi": "swbench.solvers.jacobi:Jacobi",
        "cholesky": "swbench.solvers.cholesky:Cholesky",
        "eigh-cpu": "swbench.solvers.eigh_cpu:EighCpu",
        "polar-triton": "swbench.solvers.polar_triton:PolarTriton",
        "jacobi-triton": "swbench.solvers.jacobi_triton:JacobiTriton",
        "polar-native": "swbench.solvers.polar_native:PolarNative",
    },
)


def names() -> tuple[str, ...]:
    """Every registered solver, without importing any."""
    return TABLE.names()


def get(spec: str, **options: object) -> "Solver":
    """Build the solver that `spec` describes: a name, or `name:key=value,key=value`. Keyword
    arguments add to the options in `spec`.

    Raises UnknownName for an unregistered name, OptionError for an unknown option or an invalid
    value.
    """
    import dataclasses

    name, _, text = spec.partition(":")
    cls = TABLE.load(name)
    fields = {f.name: f for f in dataclasses.fields(cls)}
    given = dict(options)
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or key not in fields:
            raise OptionError(
                f"solver {name!r} takes no option {part!r}; it takes: {', '.join(fields) or 'none'}"
            )
        kind = type(fields[key].default)
        try:
            given[key] = kind(value)
        except ValueError:
            raise OptionError(f"solver option {key}={value!r} must be {kind.__name__}") from None
    try:
        return cls(**given)
    except (TypeError, ValueError) as problem:
        raise OptionError(f"solver {spec!r}: {problem}") from None
