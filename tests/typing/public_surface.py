"""The public surface as a program uses it, for the type checker (`make lint`); the test beside it
runs it as well.
"""

from pathlib import Path
from typing import assert_type

import pandas
import torch
from torch import nn

import swbench
from swbench.flops.rule import Count
from swbench.solvers.base import Solver


def layers(x: torch.Tensor) -> list[torch.Tensor]:
    """(N, 16, H, W) through every layer."""
    modules = [
        swbench.SwitchWhiten2d(16, num_pergroup=8, sw_type=2),
        swbench.BatchWhiten2d(16, 8, solver="eigh", eps=1e-3),
        swbench.InstanceWhiten2d(16, solver=swbench.solvers.get("polar")),
    ]
    return [module(x) for module in modules]


def networks() -> nn.Module:
    """A network by name, and a norm by name."""
    assert_type(swbench.models.names(), tuple[str, ...])
    assert_type(swbench.norms.names(), tuple[str, ...])
    norm = swbench.norms.build("swa", 16, group=8, solver="polar")
    assert_type(norm, nn.Module)
    return swbench.models.build("resnet20", "swa", layers=5, num_classes=10)


def converting(net: nn.Module) -> nn.Module:
    """Whitening in the place of batch normalisation, in somebody's own network."""
    return swbench.convert_norms(net, "swa", where="every=2", group=8, mix="batch")


def folding(net: nn.Module) -> nn.Module:
    """Batch whitening folded into convolutions, for deployment."""
    return swbench.fold_whitening(net, merge_groups=True, batch_norms=True)


def solving(cov: torch.Tensor) -> torch.Tensor:
    """(G, G) to its inverse square root, by any solver that this machine has."""
    solver = swbench.solvers.get("polar", low=1e-3)
    assert_type(solver, Solver)
    assert_type(solver.available(torch.device("cpu")), str | None)
    assert_type(solver.fits(16, torch.float32), bool)
    assert_type(swbench.solvers.names(), tuple[str, ...])
    return swbench.inverse_sqrt(cov, solver="eigh", backward="paper")


def counting(model: nn.Module) -> float:
    """The FLOPs of an image, by the paper's rule."""
    assert_type(swbench.flops.names(), tuple[str, ...])
    count = swbench.count_flops(model, (3, 32, 32), rule="paper", batch=2)
    assert_type(count, Count)
    return count.total


def runs(folder: Path) -> pandas.DataFrame:
    """Every sample of a stored run."""
    return swbench.load_run(folder)
