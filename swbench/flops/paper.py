"""The paper's FLOP rule, inferred from the supplement's eleven printed FLOP cells, which it gives
to the last digit.
"""

import math
from collections.abc import Callable, Mapping
from typing import ClassVar

from swbench.errors import NotCounted
from swbench.flops.rule import Count, Difference, Rule, Shares
from swbench.flops.trace import Operation, Trace


def _convolution(op: Operation) -> int:
    """One per multiply-add, bias not counted."""
    x, weight = op.inputs[:2]
    transposed = op.args[6]
    pixels = (x if transposed else op.outputs[0]).shape[2:]
    return x.shape[0] * math.prod(pixels) * weight.numel


def _linear(op: Operation) -> int:
    """Two per weight and row: multiply and add apart. The matrices are the last two tensors of
    `addmm` and of `mm`.
    """
    left, right = op.inputs[-2:]
    return 2 * left.shape[0] * right.numel


def _normalisation(op: Operation) -> int:
    return 4 * op.inputs[0].numel


def _addition(op: Operation) -> int:
    return op.outputs[0].numel


def _window(op: Operation) -> int:
    kernel = op.args[1]
    return op.outputs[0].numel * (math.prod(kernel) if len(kernel) > 1 else kernel[0] ** 2)


def _full_window(op: Operation) -> int:
    """A window that covers the map, or tiles it: each input element once."""
    return op.inputs[0].numel


def _free(op: Operation) -> int:
    return 0


COSTS: dict[str, Callable[[Operation], int]] = {
    "convolution": _convolution,
    "addmm": _linear,
    "mm": _linear,
    "native_batch_norm": _normalisation,
    "cudnn_batch_norm": _normalisation,
    "miopen_batch_norm": _normalisation,
    "_native_batch_norm_legit": _normalisation,
    "_native_batch_norm_legit_no_training": _normalisation,
    "_batch_norm_with_update": _normalisation,
    "_batch_norm_no_update": _normalisation,
    # group, layer and instance normalisation: by analogy with BN, no printed cell shows them
    "native_group_norm": _normalisation,
    "native_layer_norm": _normalisation,
    "add": _addition,
    "add_": _addition,
    "max_pool2d_with_indices": _window,
    "avg_pool2d": _window,
    "mean": _full_window,
    "_adaptive_avg_pool2d": _full_window,
    "relu": _free,
    "relu_": _free,
    "upsample_bilinear2d": _free,
    "upsample_nearest2d": _free,
}
"""Operation -> cost. Everything else has none."""


class PaperRule(Rule):
    """Inferred, and to be called so wherever it is shown.

    A module with a method `paper_flops(shape)`, which gets the shape of its first input, declares
    its own cost: what runs inside it is not counted again. Any other operation without an entry in
    `COSTS` makes the total a lower bound, or raises NotCounted in a strict count.
    """

    name: ClassVar[str] = "paper"
    source: ClassVar[str] = (
        "inferred from tables 1 and 2 of the supplement to Pan et al. 2019; docs/flops.md"
    )
    knows_all: ClassVar[bool] = True

    def cost(self, op: Operation) -> int | None:
        return COSTS[op.name](op) if op.name in COSTS else None

    def refuse(self, op: Operation) -> None:
        raise NotCounted(
            f"the paper rule has no cost for {op.name}, which ran in "
            f"{op.module or 'the model itself'!r} ({op.layer}); "
            f"give {op.layer} a method paper_flops(self, shape) that returns its own cost, "
            "or use the rule fvcore or torch"
        )

    def counted(self, trace: Trace) -> list[Operation]:
        return [op for op in super().counted(trace) if not op.declared]

    def summed(
        self,
        trace: Trace,
        shares: Shares,
        uncounted: Mapping[str, int],
        differs: tuple[Difference, ...] = (),
    ) -> Count:
        for declared in trace.declared:
            shares.add(declared.module, declared.layer, declared.flops)
        return super().summed(trace, shares, uncounted, differs)
