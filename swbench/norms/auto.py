"""What `solver="auto"` stands for: the fastest exact solver of a measured table that can run here."""

import csv
from functools import lru_cache
from importlib import resources
from math import log2
from typing import NamedTuple

import torch

from swbench import solvers

EVERYWHERE = "eigh"
"""What is chosen where nothing was measured: exact, and in torch on every device."""


class Row(NamedTuple):
    """One measurement: µs a matrix of `solver` for `batch` matrices of `group`×`group`, forward and its gradient."""

    device: str
    dtype: str
    group: int
    batch: int
    solver: str
    forward_us: float
    gradient_us: float


@lru_cache(maxsize=1)
def measured() -> tuple[Row, ...]:
    """The table, `measured.csv` beside this file: what `python -m swbench.norms.calibrate` wrote."""
    with (resources.files(__package__) / "measured.csv").open(newline="") as file:
        return tuple(Row(r[0], r[1], int(r[2]), int(r[3]), r[4], float(r[5]), float(r[6])) for r in list(csv.reader(file))[1:])


def choose(device: torch.device, group: int, batch: int, dtype: torch.dtype) -> str:
    """The spec of the solver for `batch` matrices of `group`×`group` in the statistics `dtype` on `device`.

    Decided by the rows of the next measured group size up and, within it, the nearest batch; the fastest solver, forward and gradient,
    that is available here wins.
    """
    return _choose(device.type, group, batch, str(dtype).removeprefix("torch."))


@lru_cache(maxsize=4096)
def _choose(device: str, group: int, batch: int, dtype: str) -> str:
    rows = [row for row in measured() if row.device == device and row.dtype == dtype]
    sizes = sorted({row.group for row in rows if row.group >= group}) or sorted({row.group for row in rows})[-1:]
    rows = [row for row in rows if row.group in sizes[:1]]
    if rows:
        nearest = min({row.batch for row in rows}, key=lambda b: abs(log2(b) - log2(max(batch, 1))))
        for row in sorted((row for row in rows if row.batch == nearest), key=lambda row: row.forward_us + row.gradient_us):
            if row.solver in solvers.names() and solvers.get(row.solver).available(device) is None:
                return row.solver
    return EVERYWHERE
