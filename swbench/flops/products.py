"""Multiply-adds of matrix products and convolutions, by which the counts of two libraries are
checked against each other.
"""

import math

import torch
from torch.utils.flop_counter import flop_registry

from swbench.flops.trace import Operation, Shaped, mapped


def _shapes(tree):
    return mapped(tree, Shaped, lambda t: torch.Size(t.shape))


def torch_flops(op: Operation) -> int | None:
    """FLOPs by the formula of torch's FlopCounterMode, two a multiply-add; None where it has
    none.
    """
    formula = flop_registry.get(getattr(op.overload, "overloadpacket", op.overload))
    if formula is None:
        return None
    return int(formula(*_shapes(op.args), **_shapes(op.kwargs), out_val=_shapes(op.output)))


def _matrix_vector(op: Operation) -> int:
    return next(t.numel for t in op.inputs if len(t.shape) == 2)


def _vectors(op: Operation) -> int:
    return op.inputs[0].numel


def _integers(op: Operation) -> int:
    left, right = op.inputs[:2]
    return left.shape[0] * right.numel


def _lstm(op: Operation) -> int:
    """Input, four gates' weights and hidden state: (sequence, batch, features), 4H×I and 4H×H."""
    x, to_gates, from_hidden = op.inputs[:3]
    return math.prod(x.shape[:-1]) * (to_gates.numel + from_hidden.numel)


def _sum_of_products(op: Operation) -> int:
    return op.inputs[1].numel * op.inputs[2].shape[-1]


def _bilinear(op: Operation) -> int:
    """x₁ᵀ W x₂ with W (K, I, J), a row of either input at a time."""
    return op.inputs[0].shape[0] * op.inputs[1].numel


_EXTRA = {
    "mv": _matrix_vector,
    "addmv": _matrix_vector,
    "dot": _vectors,
    "vdot": _vectors,
    "_int_mm": _integers,
    "addbmm": _sum_of_products,
    "_trilinear": _bilinear,
    "mkldnn_rnn_layer": _lstm,
}
"""Products that torch's registry lacks."""


def multiply_adds(op: Operation) -> int:
    """The multiply-adds of one dispatched operation; 0 for one that is no product."""
    if op.name in _EXTRA:
        return _EXTRA[op.name](op)
    return (torch_flops(op) or 0) // 2
