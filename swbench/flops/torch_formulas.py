"""The counts of torch's own FlopCounterMode: its formulas, applied to the trace."""

from typing import ClassVar

import torch
from torch.utils.flop_counter import flop_registry

from swbench.flops.rule import Rule
from swbench.flops.trace import Operation, Shaped, mapped


def _shapes(tree):
    return mapped(tree, Shaped, lambda t: torch.Size(t.shape))


class TorchRule(Rule):
    """Two per multiply-add of products and convolutions; nothing for normalisation, pooling,
    additions and decompositions.
    """

    name: ClassVar[str] = "torch"
    source: ClassVar[str] = "torch.utils.flop_counter.flop_registry"

    def cost(self, op: Operation) -> int | None:
        formula = flop_registry.get(op.overload.overloadpacket)
        if formula is None:
            return None
        return int(formula(*_shapes(op.args), **_shapes(op.kwargs), out_val=_shapes(op.output)))
