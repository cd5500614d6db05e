"""Kernel sets by name: who makes the passes over the full tensors. To add one: a `Kernels` subclass and a line in the table."""

from functools import cache
from typing import TYPE_CHECKING

from swbench.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from swbench.norms.kernels.base import Kernels

TABLE = Registry(
    "kernel set",
    {
        "native": "swbench.norms.kernels.native:NativeKernels",
        "torch": "swbench.norms.kernels.aten:AtenKernels",
    },
)
"""In order of preference: the first set that can take a tensor gets it. `torch` is last and takes every tensor."""


def names() -> tuple[str, ...]:
    """Every registered kernel set, without importing any."""
    return TABLE.names()


@cache
def _instance(name: str) -> "Kernels":
    return TABLE.load(name)()


def kernels_for(x: "Tensor", wanted: str = "auto") -> "Kernels":
    """The kernel set named `wanted`, or with `auto` the first in the table that takes `x`. Raises UnknownName for an unknown name."""
    if wanted != "auto":
        return _instance(wanted)
    for name in TABLE:
        kernels = _instance(name)
        if kernels.takes(x):
            return kernels
    raise ValueError(f"no kernel set takes a tensor of shape {tuple(x.shape)}, {x.dtype}, on {x.device}")
