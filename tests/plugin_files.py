"""A plugin and a suite of its own, small enough to run in a test."""

from pathlib import Path

PLUGIN = """
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from swbench import models, norms, solvers
from swbench.models.swapping import swap_norms
from swbench.solvers.spectral_solver import SpectralSolver


class Grouped(nn.GroupNorm):
    def __init__(self, channels, *, group, solver, eps):
        super().__init__(channels // group, channels, eps=eps)


@dataclass(frozen=True, kw_only=True)
class Wide(SpectralSolver):
    name: ClassVar[str] = "wide"
    source: ClassVar[str] = "torch.linalg.eigh in float64"

    def decompose(self, cov):
        lam, d = torch.linalg.eigh(cov.double())
        return lam.to(cov.dtype), d.to(cov.dtype)

    def flops(self, group):
        return 11.0 * group**3


class Tiny(nn.Module):
    def __init__(self, num_classes):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 16, 3),
            nn.BatchNorm2d(16),
            nn.SiLU(),
            nn.Conv2d(16, 16, 3),
            nn.BatchNorm2d(16),
        )
        self.head = nn.Linear(16, num_classes)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3)))


def tiny(norm_at, num_classes):
    return swap_norms(Tiny(num_classes), norm_at)


def register():
    models.add("tiny", tiny, placements={1: (2,)}, narrowest=16)
    norms.add("grouped", Grouped, whitens=False)
    solvers.TABLE.add("wide", Wide)
"""

SUITE = """
schema = 1
kind = "network"
[network]
model = "tiny"
classes = 3
image = [[12, 12]]
batch = [2]
device = ["cpu"]
[[rows]]
norm = "bn"
[[rows]]
norm = "grouped"
layers = 1
[[rows]]
norm = "bw"
layers = 1
solver = "wide"
[protocol]
warmup_s = 0
warmup_cap_s = 0
"""


def write(folder: Path, name: str = "my_own_layers") -> tuple[str, str]:
    """Both files in `folder`; returns their paths."""
    plugin, suite = folder / f"{name}.py", folder / "own.toml"
    plugin.write_text(PLUGIN)
    suite.write_text(SUITE)
    return str(plugin), str(suite)
