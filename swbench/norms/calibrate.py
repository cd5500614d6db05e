"""Measures the table behind `solver="auto"`: `python -m swbench.norms.calibrate [DEVICE]` replaces
that device's rows in `measured.csv`.
"""

import csv
import random
import statistics
import sys
import time
from pathlib import Path

import torch

from swbench import solvers
from swbench.norms.solver_choice import Row, measured

TABLE = Path(__file__).with_name("measured.csv")
CANDIDATES = ("eigh", "polar", "polar-native", "polar-triton")
"""Exact solvers worth a row; a table may name solvers that another installation lacks."""
GROUPS, BATCHES = (4, 8, 16, 32, 64, 128), (1, 16, 256)
DTYPES = (torch.float32, torch.float64)
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
    """One row a solver that takes this size here: medians over rounds in random order, on the
    threads torch is set to.
    """
    cov, kind = covariances(batch, group, dtype, device), str(dtype).removeprefix("torch.")
    work = {}
    for name in CANDIDATES:
        if (
            name not in solvers.names()
            or (solver := solvers.get(name)).available(device) is not None
            or not solver.fits(group, kind)
        ):
            continue
        w, saved = solver.forward(cov)
        work[name, 0] = lambda solver=solver: solver.forward(cov)
        work[name, 1] = lambda solver=solver, saved=saved, w=w: solver.gradient(saved, w)
    calls = {
        key: max(1, int(LEAST_S / max(1e-7, min(_seconds(call, 1, device) for _ in range(3)))))
        for key, call in work.items()
    }
    samples = {key: [] for key in work}
    for _ in range(ROUNDS):
        for key in random.sample(list(work), len(work)):
            samples[key].append(_seconds(work[key], calls[key], device))
    medians = {
        key: round(1e6 * statistics.median(values) / batch, 4) for key, values in samples.items()
    }
    return [
        Row(device, kind, group, batch, name, medians[name, 0], medians[name, 1])
        for name, way in work
        if way == 0
    ]


def main(device: str = "cpu") -> None:
    """Measure every size on `device` and rewrite its rows."""
    rows = [row for row in measured() if row.device != device] if TABLE.exists() else []
    for dtype in DTYPES:
        for group in GROUPS:
            for batch in BATCHES:
                rows += measure(device, dtype, group, batch)
    with TABLE.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
