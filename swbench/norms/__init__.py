"""The registry of normalisations, by the names that models and suites use.

To add one: write a builder, add a line to `TABLE`, its name to `WITHOUT_SOLVER` if it does not
whiten, and its label to `LABELS` of `swbench/suite/schema.py`. A builder raises OptionError for a
number of channels that it cannot take. Tests build every norm with 16 channels.
"""

from typing import TYPE_CHECKING

from swbench.registry import Registry

if TYPE_CHECKING:
    from torch import nn

TABLE = Registry(
    "norm",
    {
        "bn": "swbench.norms.builders:batch_norm",
        "in": "swbench.norms.builders:instance_norm",
        "ln": "swbench.norms.builders:layer_norm",
        "iw": "swbench.norms.builders:instance_whiten",
        "bw": "swbench.norms.builders:batch_whiten",
        "swa": "swbench.norms.builders:switch_whiten_a",
        "swb": "swbench.norms.builders:switch_whiten_b",
    },
)


WITHOUT_SOLVER = {"bn", "in", "ln", "none"}
"""Norms that do not whiten: their cases have no solver. `none` is reserved."""


def names() -> tuple[str, ...]:
    """Every registered norm, without importing any."""
    return TABLE.names()


def add(name: str, target: object, *, whitens: bool) -> None:
    """Register your own norm: `target(channels, group=…, solver=…, eps=…)` returns a module.

    `whitens`: whether it uses `group` and `solver`; if not, its cases have no solver. Raises
    ValueError if the name is taken.
    """
    TABLE.add(name, target)
    if not whitens:
        WITHOUT_SOLVER.add(name)


def build(
    norm: str,
    channels: int,
    *,
    group: int = 16,
    solver: str = "auto",
    eps: float = 1e-5,
    **options: object,
) -> "nn.Module":
    """Build the layer registered as `norm` for inputs (N, `channels`, H, W).

    Norms that do not whiten ignore `group` and `solver`. `options` go to the constructor of the
    layer. Raises UnknownName for an unregistered norm or solver, OptionError if `group` does not
    divide `channels`.
    """
    return TABLE.load(norm)(channels, group=group, solver=solver, eps=eps, **options)


def __getattr__(name: str):
    """Import `convert_sync_whitening` on first use, so that naming norms needs no torch."""
    if name == "convert_sync_whitening":
        from swbench.norms.sync_convert import convert_sync_whitening

        return convert_sync_whitening
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
