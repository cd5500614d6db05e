"""Normalisations by name: what goes where a model asks for a norm.

To add one: a builder, a line in `TABLE`, its name in `WITHOUT_SOLVER` if it whitens nothing, and
how tables write it in `LABELS` of `swbench/suite/schema.py`. A builder raises OptionError for
channels that it cannot take: tests build every norm at 16.
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
"""Norms that whiten nothing, so a case with one of them names no solver; `none` is reserved."""


def names() -> tuple[str, ...]:
    """Every registered norm, without importing any."""
    return TABLE.names()


def add(name: str, target: object, *, whitens: bool) -> None:
    """Register a norm of one's own: a class or function called as `target(channels, group=…,
    solver=…, eps=…)` that gives a module.

    `whitens` says whether it takes `group` and `solver` into account; if not, its rows name no
    solver. Raises ValueError if the name is taken.
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
    """The layer called `norm` for (N, `channels`, H, W) inputs. `group` and `solver` are for those
    that whiten, the others ignore them.

    `options` go to the layer's constructor. Raises UnknownName for a norm or solver that no table
    holds, OptionError if `group` does not divide `channels`.
    """
    return TABLE.load(norm)(channels, group=group, solver=solver, eps=eps, **options)


def __getattr__(name: str):
    """Import `convert_sync_whitening` on first use, so that naming norms needs no torch."""
    if name == "convert_sync_whitening":
        from swbench.norms.sync_convert import convert_sync_whitening

        return convert_sync_whitening
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
