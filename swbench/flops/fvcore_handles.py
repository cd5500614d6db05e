"""The counts of fvcore's FlopCountAnalysis: its own handles, applied to the trace."""

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

from swbench.flops.rule import Rule
from swbench.flops.trace import Operation, Shaped, Trace

with warnings.catch_warnings():
    # importing fvcore.nn scripts a loss function, which torch deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    from fvcore.nn.flop_count import _DEFAULT_SUPPORTED_OPS as HANDLES

Arrange = Callable[[tuple], tuple]


def _convolution(a: tuple) -> tuple:
    # the handle checks the count of arguments: three cuDNN switches follow
    return (*a, False, False, False)


def _as_is(a: tuple) -> tuple:
    return a


_ATEN: dict[str, tuple[str, Arrange]] = {
    "convolution": ("aten::_convolution", _convolution),
    "addmm": ("aten::addmm", _as_is),
    "mm": ("aten::mm", _as_is),
    "bmm": ("aten::bmm", _as_is),
    # x A is dispatched as Aᵀ x
    "mv": ("aten::matmul", lambda a: (a[1], Shaped(a[0].shape[::-1], a[0].dtype))),
    "native_batch_norm": ("aten::batch_norm", _as_is),
    "cudnn_batch_norm": ("aten::batch_norm", _as_is),
    "miopen_batch_norm": ("aten::batch_norm", _as_is),
    "_native_batch_norm_legit": ("aten::batch_norm", _as_is),
    "_native_batch_norm_legit_no_training": ("aten::batch_norm", lambda a: (*a[:5], False, *a[5:])),
    "_batch_norm_with_update": ("aten::batch_norm", lambda a: (*a[:5], True, *a[5:])),
    "_batch_norm_no_update": ("aten::batch_norm", lambda a: (*a[:5], False, *a[5:])),
    "native_group_norm": ("aten::group_norm", lambda a: (a[0], a[6], a[1], a[2])),
    "native_layer_norm": ("aten::layer_norm", _as_is),
    "upsample_nearest2d": ("aten::upsample_nearest2d", _as_is),
    "upsample_bilinear2d": ("aten::upsample_bilinear2d", _as_is),
    "_adaptive_avg_pool2d": ("aten::adaptive_avg_pool2d", _as_is),
    "grid_sampler_2d": ("aten::grid_sampler", _as_is),
}
"""Operation as dispatched -> the name under which fvcore's tracer sees it, and its arguments in
that order.
"""

_OPAQUE = {
    "matrix_power": "aten::matrix_power",
    "linalg_matrix_power": "aten::linalg_matrix_power",
    "linalg_multi_dot": "aten::linalg_multi_dot",
}
"""Functions that are products by the time they are dispatched, but one unknown operation to
fvcore.
"""


class _Value:
    """As much of a TorchScript value as the handles read."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def isCompleteTensor(self) -> bool:  # noqa: N802 (TorchScript's name)
        return isinstance(self._value, Shaped)

    def type(self) -> "_Value":
        return self

    def sizes(self) -> list[int]:
        return list(self._value.shape)

    def toIValue(self) -> Any:  # noqa: N802 (TorchScript's name)
        return self._value


class FvcoreRule(Rule):
    """One per multiply-add; batch normalisation 5 per element in training mode and 2 in eval mode,
    so name the mode.

    fvcore's own tracer sees a custom autograd Function as one opaque operation, and a whitening
    layer as what `norms.traced` makes of it; here the handles are applied to what runs.
    """

    name: ClassVar[str] = "fvcore"
    source: ClassVar[str] = "fvcore.nn.flop_count, the handles of FlopCountAnalysis"

    def cost(self, op: Operation) -> int | None:
        aten = self.label(op)
        if aten not in HANDLES:
            return None
        _, arrange = _ATEN.get(op.name, (aten, _as_is))
        inputs = [_Value(a) for a in arrange(op.args)]
        cost = HANDLES[aten](inputs, [_Value(o) for o in op.outputs])
        return int(sum(cost.values()) if isinstance(cost, dict) else cost)

    def label(self, op: Operation) -> str:
        if op.function in _OPAQUE:
            return _OPAQUE[op.function]
        if op.name == "mean" and op.function == "adaptive_avg_pool2d":
            return "aten::adaptive_avg_pool2d"
        return _ATEN.get(op.name, (f"aten::{op.name}", _as_is))[0]

    def counted(self, trace: Trace) -> list[Operation]:
        kept, calls = [], set()
        for op in super().counted(trace):
            if op.function in _OPAQUE:
                if op.call in calls:
                    continue
                calls.add(op.call)
            kept.append(op)
        return kept
