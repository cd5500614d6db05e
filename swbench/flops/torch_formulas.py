"""The counts of torch's own FlopCounterMode on the meta device: its formulas, applied to the
trace.
"""

from collections import Counter
from typing import ClassVar

from swbench.flops.control import LOOPS
from swbench.flops.products import multiply_adds, torch_flops
from swbench.flops.rule import Count, Differences, Rule, Shares
from swbench.flops.trace import Operation, Trace


class TorchRule(Rule):
    """Two per multiply-add of products and convolutions; nothing for normalisation, pooling,
    additions and decompositions.

    On the meta device attention is the two products that it is made of; on a CPU FlopCounterMode
    has no formula for the fused operation and counts 0.
    """

    name: ClassVar[str] = "torch"
    source: ClassVar[str] = "torch.utils.flop_counter.flop_registry"

    def cost(self, op: Operation) -> int | None:
        return torch_flops(op)

    def count(self, trace: Trace, strict: bool = False) -> Count:
        shares, uncounted, differences = Shares(), Counter(), Differences()
        loops: set[int] = set()
        for op in self.counted(trace):
            call = None if op.call is None else trace.calls[op.call]
            if call is not None and call.function in LOOPS:
                if call.function_call not in loops:
                    loops.add(call.function_call)
                    uncounted[call.function] += 1
                if ours := 2 * multiply_adds(op):
                    differences.add(call.function, 0, ours, "FlopCounterMode does not look into it")
            elif (cost := self.cost(op)) is not None:
                shares.add(op.module, op.name, cost)
            else:
                uncounted[op.name] += 1
                if ours := 2 * multiply_adds(op):
                    differences.add(op.name, 0, ours, "FlopCounterMode has no formula for it")
        return self.summed(trace, shares, uncounted, differences.all())
