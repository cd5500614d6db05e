"""The choice of `solver="auto"`: the fastest exact solver in a measured table that can run here."""

import csv
import sys
from functools import lru_cache
from importlib import resources
from itertools import pairwise
from typing import NamedTuple

import torch

from swbench import solvers
from swbench.solvers.base import Solver

AUTO = "auto"
EVERYWHERE = "eigh"
"""The choice where nothing was measured: exact, and in torch on every device."""
ANY = sys.maxsize
"""Stands for the square of any batch."""
UNMEASURED_GPU = "polar-triton"
"""The choice on a GPU where nothing was measured, if it can run. It is one launch without host
synchronisation, and the kernels of the layers include it.
"""


class Row(NamedTuple):
    """One measurement of `solver` with `batch` matrices of `group`×`group`: µs per matrix of the
    forward pass and of its gradient. `gradient_us` is None where the forward pass alone was
    measured, for the inverse `root`.
    """

    device: str
    dtype: str
    group: int
    batch: int
    solver: str
    forward_us: float
    gradient_us: float | None
    root: int = 2


@lru_cache(maxsize=1)
def measured() -> tuple[Row, ...]:
    """The table `measured.csv` beside this file, written by `python -m
    swbench.solvers.calibrate`.
    """
    with (resources.files(__package__) / "measured.csv").open(newline="") as file:
        return tuple(
            Row(
                *(r["device"], r["dtype"], int(r["group"]), int(r["batch"]), r["solver"]),
                float(r["forward_us"]),
                float(r["gradient_us"]) if r["gradient_us"] else None,
                int(r["root"]),
            )
            for r in csv.DictReader(file)
        )


def choose(
    device: torch.device,
    group: int,
    batch: int,
    dtype: torch.dtype,
    root: int = 2,
    gradient: bool = True,
) -> str:
    """The spec of the solver for `batch` matrices of `group`×`group` in the statistics `dtype` on
    `device`: with its gradient or, for any `root`, without it.

    The choice is made by the rows of the next measured group size up and, among them, of the
    nearest batch. The fastest solver that is available here and takes such matrices wins, by the
    time of forward and gradient or of forward alone.
    """
    kind = str(dtype).removeprefix("torch.")
    return _choose(device.type, group, batch, kind, root, gradient)


@lru_cache(maxsize=4096)
def _choose(device: str, group: int, batch: int, dtype: str, root: int, gradient: bool) -> str:
    return pick(by_batch(device, group, dtype, root, gradient), batch)


def solver_for(
    solver: str | Solver, group: int, batch: int, dtype: torch.dtype, device: torch.device
) -> tuple[Solver, str]:
    """The solver of a layer for `batch` matrices of `group`×`group` in the statistics `dtype`, and
    its name: `solver` itself, that of a spec, or for `auto` the one that `choose` names.
    """
    if isinstance(solver, Solver):
        return solver, solver.name
    spec = choose(device, group, batch, dtype) if solver == AUTO else solver
    return solvers.get(spec), spec


def by_batch(
    device: str, group: int, dtype: str, root: int = 2, gradient: bool = True
) -> tuple[tuple[int, str], ...]:
    """The candidates of `choose`: solvers in the order of their batches, each with the square of
    the largest batch that it is for.
    """
    rows = [
        row
        for row in measured()
        if (row.device, row.dtype, row.root) == (device, dtype, root)
        and (row.gradient_us is None) != gradient
    ]
    sizes = (
        sorted({row.group for row in rows if row.group >= group})
        or sorted({row.group for row in rows})[-1:]
    )
    rows = [row for row in rows if row.group in sizes[:1]]
    if not rows:
        return (
            (
                ANY,
                UNMEASURED_GPU
                if device == "cuda" and _takes(UNMEASURED_GPU, device, group, dtype)
                else EVERYWHERE,
            ),
        )
    batches = sorted({row.batch for row in rows})
    choices: list[tuple[int, str]] = []
    # The nearest measured batch by ratio: up to the geometric mean of two it is the smaller one.
    for batch, most in zip(batches, [*(a * b for a, b in pairwise(batches)), ANY], strict=True):
        spec = _fastest([row for row in rows if row.batch == batch], device, group, dtype)
        choices = [*(choices[:-1] if choices and choices[-1][1] == spec else choices), (most, spec)]
    return tuple(choices)


def pick(choices: tuple[tuple[int, str], ...], batch: int) -> str:
    """The solver for `batch` matrices among the `choices` of `by_batch`. Traceable by a compiler
    with a symbolic batch.
    """
    for most, spec in choices[:-1]:
        if batch * batch <= most:
            return spec
    return choices[-1][1]


def _fastest(rows: list[Row], device: str, group: int, dtype: str) -> str:
    for row in sorted(rows, key=lambda row: row.forward_us + (row.gradient_us or 0.0)):
        if row.solver in solvers.names() and _takes(row.solver, device, group, dtype):
            return row.solver
    return EVERYWHERE


def _takes(spec: str, device: str, group: int, dtype: str) -> bool:
    solver = solvers.get(spec)
    return solver.available(device) is None and solver.fits(group, dtype)
