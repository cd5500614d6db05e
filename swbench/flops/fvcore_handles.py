"""The counts of fvcore's FlopCountAnalysis: its own handles, applied to the calls that its tracer
sees.
"""

import warnings
from collections import Counter, defaultdict
from typing import Any, ClassVar

from swbench.flops.products import multiply_adds
from swbench.flops.rule import Count, Differences, Rule, Shares
from swbench.flops.trace import Call, Operation, Shaped, Trace, leaves

with warnings.catch_warnings():
    # importing fvcore.nn scripts a loss function, which torch deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS as HANDLES

_PRODUCTS = frozenset(
    f"aten::{name}" for name in ("addmm", "bmm", "_convolution", "einsum", "matmul", "mm", "linear")
)
"""Handles that count multiply-adds."""

_TRANSFORMED = {"convolution": "aten::_convolution"}
_CUDNN_SWITCHES = (False, False, False)


class _Value:
    """The part of a TorchScript value that the handles read."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def isCompleteTensor(self) -> bool:  # noqa: N802 (TorchScript's name)
        return isinstance(self._value, Shaped)

    def type(self) -> "_Value":
        return self

    def node(self) -> "_Value":
        return self

    def inputs(self) -> list["_Value"]:
        return [_Value(value) for value in self._value]

    def sizes(self) -> list[int]:
        return list(self._value.shape)

    def toIValue(self) -> Any:  # noqa: N802 (TorchScript's name)
        return self._value


def handled(name: str, args: tuple, output: Any) -> int:
    """The cost of a call by fvcore's handle. Raises what the handle raises."""
    if name == "aten::_convolution":
        # the handle checks the count of arguments
        args = (*args[:9], *_CUDNN_SWITCHES)
    cost = HANDLES[name]([_Value(a) for a in args], [_Value(o) for o in leaves(output)])
    return int(sum(cost.values()) if isinstance(cost, dict) else cost)


class FvcoreRule(Rule):
    """One per multiply-add; batch normalisation 5 per element in training mode and 2 in eval mode,
    so name the mode.

    The total is what `FlopCountAnalysis(model, inputs).total()` gives. It does not see what it has
    no handle for, what a custom autograd Function computes, and what does not reach the model's
    output; each is in `uncounted` or in `differs`. One thing is counted otherwise: inside a module
    that declares its own cost (`paper_flops`), which is how a whitening layer is known, the handles
    see the operations that run, where fvcore traces the layer's definition
    (`norms.traced`).
    """

    name: ClassVar[str] = "fvcore"
    source: ClassVar[str] = "fvcore.nn.flop_count, the handles of FlopCountAnalysis"

    def cost(self, op: Operation) -> int | None:
        raise NotImplementedError("fvcore counts calls, not operations")

    def count(self, trace: Trace, strict: bool = False) -> Count:
        inside: dict[int | None, list[Operation]] = defaultdict(list)
        for op in self.counted(trace):
            inside[op.call].append(op)
        shares, uncounted, differences = Shares(), Counter(), Differences()
        functions: set[int] = set()
        for number, call in enumerate(trace.calls):
            computed = inside[number]
            ours = sum(multiply_adds(op) for op in computed)
            if call.function and not call.declared:
                if call.function_call not in functions:
                    functions.add(call.function_call)
                    uncounted[call.function] += 1
                if ours:
                    differences.add(call.function, 0, ours, "fvcore does not look into it")
                continue
            if call.name not in HANDLES:
                if computed and call.used:
                    uncounted[call.name] += 1
                if ours:
                    differences.add(call.name, 0, ours, "fvcore has no handle for it")
                continue
            try:
                cost = handled(call.name, call.args, call.output)
            except Exception as problem:  # noqa: BLE001  whatever the handle raises, fvcore raises
                uncounted[call.name] += 1
                why = f"fvcore itself fails on it ({type(problem).__name__})"
                differences.add(call.name, 0, ours, why)
                continue
            if not call.used:
                why = "the model does not use the result, and fvcore's trace drops it"
                differences.add(call.name, 0, cost, why)
                continue
            shares.add(call.module, call.name, cost)
            self._compare(call, cost, ours, computed, differences)
        for op in inside[None]:  # under torch.func.vmap and the like, the tracer sees these
            name = _TRANSFORMED.get(op.name, f"aten::{op.name}")
            if name in _PRODUCTS:
                shares.add(op.module, name, handled(name, op.args, op.output))
            else:
                uncounted[name] += 1
                if ours := multiply_adds(op):
                    differences.add(name, 0, ours, "fvcore has no handle for it")
        return self.summed(trace, shares, uncounted, differences.all())

    @staticmethod
    def _compare(
        call: Call, cost: int, ours: int, computed: list[Operation], differences: Differences
    ) -> None:
        """Record the calls for which a handle is wrong."""
        if call.name == "aten::grid_sampler":
            corners = 2 ** (len(call.args[0].shape) - 2)
            if corners != 4 or call.args[2] != 0:
                elements = leaves(call.output)[0].numel
                ours = elements * {0: corners, 1: 1, 2: 16}[call.args[2]]
                differences.add(
                    call.name, cost, ours, "fvcore takes every sampler as bilinear in 2-d"
                )
        elif call.name in _PRODUCTS:
            if call.name == "aten::einsum":
                ours += sum(op.outputs[0].numel for op in computed if op.name == "mul")
            if ours != cost:
                why = (
                    "fvcore halves numpy's estimate: four digits, 1 for a product without a sum"
                    if call.name == "aten::einsum"
                    else "fvcore's handle takes the shapes before they are broadcast"
                )
                differences.add(call.name, cost, ours, why)
