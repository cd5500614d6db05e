"""The contract of a FLOP rule: a cost for each operation of a trace, and a name for each one that
it leaves out.
"""

from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from typing import ClassVar

from swbench.flops.trace import Operation, Trace


@dataclass(frozen=True)
class Count:
    """What one rule says about one trace.

    `by_layer` maps module paths and `by_operation` operation names to their share of `total`;
    `uncounted` maps each operation that the rule leaves out to how often it ran. `mode` is `train`
    or `eval`.
    """

    rule: str
    total: int
    by_layer: dict[str, int]
    by_operation: dict[str, int]
    uncounted: dict[str, int]
    mode: str


class Rule(ABC):
    """One way to count. Views, allocations, copies and integer bookkeeping (`Operation.moves_only`)
    never reach `cost`.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    @abstractmethod
    def cost(self, op: Operation) -> int | None:
        """FLOPs of one operation; None where the rule leaves it out. Raises NotCounted where the
        rule forbids that.
        """

    def label(self, op: Operation) -> str:
        """What the rule calls the operation."""
        return op.name

    def count(self, trace: Trace) -> Count:
        """All of `trace` by this rule."""
        by_layer, by_operation, uncounted = Counter(), Counter(), Counter()
        for op in self.counted(trace):
            cost = self.cost(op)
            if cost is None:
                uncounted[self.label(op)] += 1
            else:
                by_layer[op.module] += cost
                by_operation[self.label(op)] += cost
        return Count(
            self.name,
            sum(by_layer.values()),
            dict(by_layer),
            dict(by_operation),
            dict(uncounted),
            trace.mode,
        )

    def counted(self, trace: Trace) -> list[Operation]:
        """The operations that need a cost."""
        return [op for op in trace.operations if not op.moves_only]
