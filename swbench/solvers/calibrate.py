"""Measures the table behind `solver="auto"`: `python -m swbench.solvers.calibrate [DEVICE]`
replaces that device's rows in `measured.csv`, and `… DEVICE roots` only its rows of the forward
pass alone.
"""

import csv
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import torch

from swbench import solvers
from swbench.solvers.base import ROOTS, Solver
from swbench.solvers.choice import Row, measured

TABLE = Path(__file__).with_name("measured.csv")
CANDIDATES = ("eigh", "polar", "polar-native", "polar-triton")
"""Exact solvers to measure; the table may name solvers that another installation lacks."""
GROUPS, BATCHES = (4, 8, 16, 32, 64, 128), (1, 16, 256)
DTYPES = (torch.float32, torch.float64)
ROOT_CANDIDATES = ("eigh", "eigh-threads", "polar", "polar-native")
ROOT_GROUPS, ROOT_BATCHES = (16, 64, 128, 256, 512), (1, 16)
ROOTS_IN = (torch.float32,)
"""Dtypes for the forward pass alone, whose matrices are larger, as for preconditioners."""
ROUNDS = 5
LEAST_S = 0.002
"""Calls are repeated until a sample takes this long."""


def covariances(batch: int, group: int, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Random covariances, (B, G, G), of 4·G samples each with channel scales over two decades."""
    scales = torch.logspace(-1, 1, group, dtype=dtype, device=device).view(-1, 1)
    samples = scales * torch.randn(batch, group, 4 * group, dtype=dtype, device=device)
    return samples @ samples.mT / (4 * group)


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _seconds(call, calls: int, device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    _wait(device)
    return (time.perf_counter() - start) / calls


def measure(device: str, dtype: torch.dtype, group: int, batch: int) -> list[Row]:
    """One row for each solver that supports this size here: medians over rounds in random order,
    with the number of threads that torch is set to.
    """
    cov, kind = covariances(batch, group, dtype, device), str(dtype).removeprefix("torch.")
    work = {}
    for name, solver in _taking(CANDIDATES, device, group, kind):
        w, saved = solver.forward(cov)
        work[name, 0] = lambda solver=solver: solver.forward(cov)
        work[name, 1] = lambda solver=solver, saved=saved, w=w: solver.gradient(saved, w)
    medians = _medians_us(work, device, batch)
    return [
        Row(device, kind, group, batch, name, medians[name, 0], medians[name, 1])
        for name, is_gradient in work
        if is_gradient == 0
    ]


def measure_root(device: str, dtype: torch.dtype, group: int, batch: int, root: int) -> list[Row]:
    """As `measure`, for the forward pass alone."""
    cov, kind = covariances(batch, group, dtype, device), str(dtype).removeprefix("torch.")
    work = {
        name: lambda solver=solver: solver.inverse_root(cov, root)
        for name, solver in _taking(ROOT_CANDIDATES, device, group, kind)
    }
    medians = _medians_us(work, device, batch)
    return [Row(device, kind, group, batch, name, medians[name], None, root) for name in work]


def _taking(names: Iterable[str], device: str, group: int, kind: str) -> list[tuple[str, Solver]]:
    """The solvers among `names` that support such matrices here."""
    named_solvers = [(name, solvers.get(name)) for name in names if name in solvers.names()]
    return [
        (name, solver)
        for name, solver in named_solvers
        if solver.available(device) is None and solver.fits(group, kind)
    ]


def _medians_us(
    work: Mapping[Any, Callable[[], object]], device: str, batch: int
) -> dict[Any, float]:
    """The median time of each call in µs per matrix."""
    calls = {
        key: max(1, int(LEAST_S / max(1e-7, min(_seconds(call, 1, device) for _ in range(3)))))
        for key, call in work.items()
    }
    samples = {key: [] for key in work}
    for _ in range(ROUNDS):
        for key in random.sample(list(work), len(work)):
            samples[key].append(_seconds(work[key], calls[key], device))
    return {
        key: round(1e6 * statistics.median(values) / batch, 4) for key, values in samples.items()
    }


def main(device: str = "cpu", what: str = "all") -> None:
    """Measure every size on `device` and rewrite its rows: `what` is `all`, or `roots` for the
    forward pass alone.
    """
    other_rows = [
        row
        for row in measured()
        if row.device != device or (what == "roots" and row.gradient_us is not None)
    ]
    rows = list(other_rows)
    for dtype, group, batch in product(DTYPES, GROUPS, BATCHES) if what == "all" else ():
        rows += measure(device, dtype, group, batch)
    for root, dtype, group, batch in product(ROOTS, ROOTS_IN, ROOT_GROUPS, ROOT_BATCHES):
        rows += measure_root(device, dtype, group, batch, root)
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
