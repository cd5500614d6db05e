"""Control flow operators (`torch.cond`, `while_loop`, `map`, `scan`) while a pass is recorded:
their functions run as they are written, in place of a kernel.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from swbench.flops.calls import KEY, Calls, recording
from swbench.flops.products import torch_flops
from swbench.flops.trace import Operation

LOOPS = frozenset(("while_loop", "map_impl", "scan"))
"""Operators that are opaque to FlopCounterMode."""


_PREPARED: set[str] = set()


def prepare() -> None:
    """Register every loaded higher-order operator at the dispatch key that records calls."""
    for name, operator in list(torch._ops._higher_order_ops.items()):
        if name in _PREPARED:
            continue
        _PREPARED.add(name)
        if name in _WRITTEN:
            operator.py_impl(KEY)(_as_written(name, _WRITTEN[name]))
        else:
            operator.fallthrough(KEY)


def _as_written(name: str, written: Callable) -> Callable:
    def run(*args: Any) -> Any:
        calls = recording()
        outer = calls.script
        calls.script = outer or calls.open_opaque(name, args)
        try:
            return written(calls, *args)
        finally:
            calls.script = outer

    return run


def _cond(calls: Calls, _pred: Any, true: Callable, false: Callable, operands: Sequence) -> Any:
    """Run both branches, and count each operation from the more expensive one: an upper bound, as
    in FlopCounterMode.
    """
    start = len(calls.operations)
    result = true(*operands)
    middle = len(calls.operations)
    false(*operands)
    branches = calls.operations[start:middle], calls.operations[middle:]
    calls.operations[start:] = _most_expensive(*branches)
    return result


def _most_expensive(first: Sequence[Operation], second: Sequence[Operation]) -> list[Operation]:
    groups: dict[str, tuple[list, list]] = defaultdict(lambda: ([], []))
    for side, branch in enumerate((first, second)):
        for op in branch:
            groups[op.name][side].append(op)
    return [op for group in groups.values() for op in max(group, key=_cost_key)]


def _cost_key(operations: Sequence[Operation]) -> tuple[int, int]:
    elements = sum(t.numel for op in operations for t in op.outputs)
    return sum(torch_flops(op) or 0 for op in operations), elements


def _while_loop(
    _calls: Calls, condition: Callable, body: Callable, carried: tuple, extra: tuple = ()
) -> tuple:
    while bool(condition(*carried, *extra)):
        carried = tuple(body(*carried, *extra))
    return carried


def _map(_calls: Calls, function: Callable, xs: Sequence[Tensor], extra: Sequence) -> list[Tensor]:
    rows = [function(*row, *extra) for row in zip(*(x.unbind() for x in xs), strict=True)]
    return [torch.stack(column) for column in zip(*rows, strict=True)]


def _scan(
    _calls: Calls, combine: Callable, init: Sequence, xs: Sequence[Tensor], extra: Sequence = ()
) -> list[Tensor]:
    carried, rows = list(init), []
    for row in zip(*(x.unbind() for x in xs), strict=True):
        result = list(combine(*carried, *row, *extra))
        carried, made = result[: len(carried)], result[len(carried) :]
        rows.append(made)
    return [*carried, *(torch.stack(column) for column in zip(*rows, strict=True))]


_WRITTEN = {"cond": _cond, "while_loop": _while_loop, "map_impl": _map, "scan": _scan}
