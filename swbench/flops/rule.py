"""The contract of a FLOP rule: it assigns a cost to each operation of a trace, and names those that
it leaves out.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from swbench.flops.trace import Operation, Trace


@dataclass(frozen=True)
class Difference:
    """An operation that the tool or paper behind a rule misses or miscounts. For `calls` calls of
    `operation` it counts `counted` FLOPs. swbench counts `ours`, with the same cost of a
    multiply-add. `why` is the reason.
    """

    operation: str
    calls: int
    counted: int
    ours: int
    why: str


@dataclass(frozen=True)
class Count:
    """The result of one rule for one trace.

    `by_layer` maps module paths and `by_operation` operation names to their share of `total`;
    `uncounted` maps each operation that the rule leaves out to how often it ran. `mode` is `train`
    or `eval`. `differs` lists where swbench would count otherwise than the source of the rule; none
    of it is in `total`. `at_least` is True where the rule should know every operation but
    `uncounted` is not empty: then the total is a lower bound. As text: `≥ 0.39 GFLOPs, without silu
    ×49`.
    """

    rule: str
    total: int
    by_layer: dict[str, int]
    by_operation: dict[str, int]
    uncounted: dict[str, int]
    mode: str
    differs: tuple[Difference, ...] = ()
    at_least: bool = False

    @property
    def remainder(self) -> str:
        """The operations of `uncounted` with their number of calls, the most frequent first:
        `without silu ×49, mul ×16`; empty where there are none.
        """
        frequent = sorted(self.uncounted.items(), key=lambda item: (-item[1], item[0]))
        names = ", ".join(f"{name.removeprefix('aten::')} ×{calls}" for name, calls in frequent)
        return f"without {names}" if names else ""

    def __str__(self) -> str:
        text = f"{self.total / 1e9:.2f} GFLOPs"
        return f"≥ {text}, {self.remainder}" if self.at_least else text


class Rule(ABC):
    """One way to count. Views, allocations, copies and integer bookkeeping (`Operation.moves_only`)
    never reach `cost`.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    knows_all: ClassVar[bool] = False
    """Whether the rule is meant to cover every operation that computes. If it leaves one out, its
    total is only a lower bound.
    """

    @abstractmethod
    def cost(self, op: Operation) -> int | None:
        """FLOPs of one operation; None where the rule leaves it out."""

    def label(self, op: Operation) -> str:
        """The rule's name of the operation."""
        return op.name

    def count(self, trace: Trace, strict: bool = False) -> Count:
        """Count `trace` by this rule. With `strict`, raises NotCounted for an operation that the
        rule should know and does not.
        """
        shares, uncounted = Shares(), Counter()
        for op in self.counted(trace):
            cost = self.cost(op)
            if cost is None:
                if strict and self.knows_all:
                    self.refuse(op)
                uncounted[self.label(op)] += 1
            else:
                shares.add(op.module, self.label(op), cost)
        return self.summed(trace, shares, uncounted)

    def counted(self, trace: Trace) -> list[Operation]:
        """The operations that need a cost."""
        return [op for op in trace.operations if not op.moves_only]

    def refuse(self, op: Operation) -> None:
        """Raises NotCounted for an operation that the rule should know."""
        raise NotImplementedError

    def summed(
        self,
        trace: Trace,
        shares: "Shares",
        uncounted: Mapping[str, int],
        differs: tuple[Difference, ...] = (),
    ) -> Count:
        """The count that the shares add up to."""
        return Count(
            self.name,
            sum(shares.by_layer.values()),
            dict(shares.by_layer),
            dict(shares.by_operation),
            dict(uncounted),
            trace.mode,
            differs,
            self.knows_all and bool(uncounted),
        )


class Shares:
    """FLOPs by layer and by operation while they are added up."""

    def __init__(self) -> None:
        self.by_layer: Counter[str] = Counter()
        self.by_operation: Counter[str] = Counter()

    def add(self, module: str, operation: str, flops: int) -> None:
        """Add `flops` of `operation` in `module`."""
        self.by_layer[module] += flops
        self.by_operation[operation] += flops


class Differences:
    """Collects differences; those of one operation with the same reason are summed."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], list[int]] = {}

    def add(self, operation: str, counted: int, ours: int, why: str) -> None:
        """Add one call."""
        sums = self._sums.setdefault((operation, why), [0, 0, 0])
        for i, value in enumerate((1, counted, ours)):
            sums[i] += value

    def all(self) -> tuple[Difference, ...]:
        """All differences, the largest first."""
        differences = [
            Difference(operation, calls, counted, ours, why)
            for (operation, why), (calls, counted, ours) in self._sums.items()
        ]
        return tuple(sorted(differences, key=lambda d: -abs(d.ours - d.counted)))
