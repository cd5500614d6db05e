"""Named spectra: batches of covariance matrices in float64 whose eigenvalues are known by
construction.
"""

import csv
import math
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from swbench.errors import OptionError, UnknownName

if TYPE_CHECKING:
    import torch

NAMES = (
    "kappa=1e1",
    "kappa=1e2",
    "kappa=1e3",
    "kappa=1e4",
    "kappa=1e5",
    "kappa=1e6",
    "two-eightfold",
    "identity",
    "gap=1e-4",
    "rank-deficient",
    "power-law",
    "dominated",
    "gradients",
)
"""The names of all spectra. All but `two-eightfold` and `identity` usually have a value after `=`.
"""

_DEFAULTS = {
    "kappa": 1e3,
    "two-eightfold": 1e3,
    "identity": 2.0,
    "gap": 1e-4,
    "rank-deficient": 1e-5,
    "power-law": 1e4,
    "dominated": 1e4,
    "gradients": 1e-6,
}
_RANGES = {
    "kappa": (1.0, 1e15),
    "two-eightfold": (1.0, 1e15),
    "identity": (1e-6, 1e6),
    "gap": (0.0, 1.0),
    "rank-deficient": (1e-15, 1.0),
    "power-law": (1.0, 1e15),
    "dominated": (3.0, 1e15),
    "gradients": (1e-15, 1.0),
}


def parse(name: str) -> tuple[str, float]:
    """Kind and value of a spectrum's name: `kappa=1e3` is ("kappa", 1000.0). Imports nothing.

    Raises UnknownName for an unknown kind, OptionError for a value that is no number or out of
    range.
    """
    kind, equals, text = name.partition("=")
    if kind not in _DEFAULTS:
        raise UnknownName("spectrum", name, NAMES)
    try:
        value = float(text) if equals else _DEFAULTS[kind]
    except ValueError:
        raise OptionError(
            f"spectrum {name!r}: {text!r} is no number; write {kind}={_DEFAULTS[kind]:g}, say"
        ) from None
    low, high = _RANGES[kind]
    if not low <= value <= high:
        raise OptionError(f"spectrum {name!r}: the value must lie in {low:g} … {high:g}")
    return kind, value


def kappa(name: str) -> float:
    """The condition number of a spectrum: λ_max/λ_min."""
    kind, value = parse(name)
    return {
        "kappa": value,
        "two-eightfold": value,
        "identity": 1.0,
        "gap": 10.0 * (1 + value),
        "rank-deficient": 1 / value,
        "power-law": value,
        "dominated": value,
        "gradients": 1 + 1 / value,
    }[kind]


def degenerate(name: str) -> bool:
    """True where eigenvalues coincide, so that the paper's backward must fail."""
    kind, value = parse(name)
    return kind in ("two-eightfold", "identity", "rank-deficient") or (kind == "gap" and value == 0)


def eigenvalues(name: str, batch: int, group: int, generator: "torch.Generator") -> "torch.Tensor":
    """Eigenvalues of `batch` matrices, (B, G), float64. The largest is about 1, except for
    `identity=c`: all are c, 2 by default.

    - `kappa=k`: log-uniform at random between 1/k and 1, both ends included.
    - `two-eightfold[=k]`: half of them 1, half 1/k (eight and eight where G = 16), k = 1e3 by
    default.
    - `gap=g`: pairs (λ, λ(1 + g)), the λ spread evenly in the logarithm over a decade.
    - `rank-deficient[=e]`: half of them log-uniform in [0.1, 1], the rest e, 1e-5 by default: as
    with few pixels, many channels, and the layer's ε.
    - `power-law[=k]`: i^(-s), i = 1 … G, with s such that the last is 1/k, k = 1e4 by default.
    - `dominated[=k]`: one of them 1, the rest between 1/k and 3/k, k = 1e4 by default.
    - `gradients[=e]`: those of Gram matrices of gradients, recorded in training (`recorded`), at
    G of their quantiles, plus Shampoo's ε, 1e-6 of the largest by default. The matrices of a
    batch take the records in turn.
    """
    import torch

    kind, value = parse(name)
    lam = torch.empty(batch, group, dtype=torch.float64)
    high = (group + 1) // 2
    if kind == "kappa":
        lam = torch.rand(batch, group, dtype=torch.float64, generator=generator)
        lam[:, 0] = 0.0
        if group > 1:
            lam[:, 1] = 1.0
        return value**-lam
    if kind == "identity":
        return lam.fill_(value)
    if kind == "gap":
        pair = torch.arange(group) // 2
        base = torch.logspace(0, -1, max(high, 2), dtype=torch.float64)[pair]
        return (
            (base * (1 + value * (torch.arange(group) % 2).double())).expand(batch, group).clone()
        )
    if kind == "two-eightfold":
        lam[:, :high], lam[:, high:] = 1.0, 1 / value
        return lam
    if kind == "power-law":
        log_index = torch.arange(1, group + 1, dtype=torch.float64).log() / math.log(max(group, 2))
        return (value**-log_index).expand(batch, group).clone()
    if kind == "dominated":
        lam = (1 + 2 * torch.rand(batch, group, dtype=torch.float64, generator=generator)) / value
        lam[:, -1], lam[:, 0] = 1 / value, 1.0
        return lam
    if kind == "gradients":
        return _recorded(batch, group) + value
    lam[:, :high] = 10.0 ** -torch.rand(batch, high, dtype=torch.float64, generator=generator)
    lam[:, high:] = value
    return lam


@cache
def recorded() -> dict[str, tuple[float, ...]]:
    """Eigenvalues of Gram matrices Σ G Gᵀ of a layer's gradients G, from the largest, which is 1,
    down, by layer, side and step: `gradient_spectra.csv` beside this file, which `python -m
    benchmarks.gradient_spectra` wrote.
    """
    with (resources.files(__package__) / "gradient_spectra.csv").open(newline="") as file:
        names, *rows = csv.reader(file)
    return {name: tuple(float(row[column]) for row in rows) for column, name in enumerate(names)}


def _recorded(batch: int, group: int) -> "torch.Tensor":
    """The records at `group` of their quantiles, interpolated between two by the logarithm."""
    import numpy as np
    import torch

    records = list(recorded().values())
    quantiles = np.linspace(0, 1, group)
    interpolated = [
        np.exp(np.interp(quantiles, np.linspace(0, 1, len(record)), np.log(record)))
        for record in records
    ]
    return torch.from_numpy(
        np.stack([interpolated[index % len(interpolated)] for index in range(batch)])
    )


def covariances(name: str, batch: int, group: int, seed: int = 0) -> "torch.Tensor":
    """`batch` symmetric matrices of the named spectrum, (B, G, G), float64, on the CPU, in random
    bases; the same for the same `seed`.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    lam = eigenvalues(name, batch, group, generator)
    basis, _ = torch.linalg.qr(
        torch.randn(batch, group, group, dtype=torch.float64, generator=generator)
    )
    cov = (basis * lam.unsqueeze(-2)) @ basis.mT
    return 0.5 * (cov + cov.mT)
