"""The registry of FLOP rules, which assign a cost to each operation of a network. To add one: a
file with a `Rule` subclass, and a line in this table.
"""

from typing import TYPE_CHECKING

from swbench.registry import Registry

if TYPE_CHECKING:
    from swbench.flops.rule import Rule

TABLE = Registry(
    "FLOP rule",
    {
        "paper": "swbench.flops.paper:PaperRule",
        "fvcore": "swbench.flops.fvcore_handles:FvcoreRule",
        "torch": "swbench.flops.torch_formulas:TorchRule",
    },
)


def names() -> tuple[str, ...]:
    """Every registered rule, without importing any."""
    return TABLE.names()


def get(name: str) -> "Rule":
    """The rule called `name`. Raises UnknownName."""
    return TABLE.load(name)()
