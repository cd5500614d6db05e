"""The registry of backends, which compute whitening layers. To add one: a `Backend` subclass and a
line in the table.
"""

from functools import cache
from typing import TYPE_CHECKING

from swbench.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

    from swbench.norms.kernels.backend import Backend

TABLE = Registry(
    "backend",
    {
        "native": "swbench.norms.kernels.native:NativeBackend",
        "triton": "swbench.norms.kernels.triton_kernels.backend:TritonBackend",
        "torch": "swbench.norms.kernels.torch_ops:TorchBackend",
    },
)
"""In order of preference: the first backend that takes a tensor computes the layer. `torch` is last
and takes every tensor.
"""


def names() -> tuple[str, ...]:
    """Every registered backend, without importing any."""
    return TABLE.names()


@cache
def named(name: str) -> "Backend":
    """The only instance of the backend `name`. Raises UnknownName for an unknown name."""
    return TABLE.load(name)()


def kernels_for(x: "Tensor", wanted: str = "auto") -> "Backend":
    """The backend named `wanted`, or with `auto` the first in the table that takes `x`.

    Raises UnknownName for an unknown name, ValueError if the backend `wanted` does not take `x`: C
    would misread another dtype.
    """
    if wanted != "auto":
        kernels = named(wanted)
        if kernels.takes(x):
            return kernels
        raise ValueError(
            f"backend {wanted!r} does not take {x.dtype} on {x.device}; leave "
            "`kernels` at 'auto', or choose 'torch'"
        )
    for name in TABLE:
        kernels = named(name)
        if kernels.takes(x):
            return kernels
    raise ValueError(
        f"no backend takes a tensor of shape {tuple(x.shape)}, {x.dtype}, on {x.device}"
    )
