"""The trace of one forward pass: every operation with its shapes and place, independent of any rule
that counts it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, slots=True)
class Shaped:
    """The shape and dtype of a tensor in a trace."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def numel(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)


def mapped(tree: Any, kind: type, function: Callable) -> Any:
    """`tree` with `function` applied to each leaf of type `kind`. Lists and tuples become tuples,
    dicts stay dicts.

    Operations hold no other containers, and torch's own pytree takes ten times as long.
    """
    if isinstance(tree, kind):
        return function(tree)
    if isinstance(tree, tuple | list):
        return tuple([mapped(leaf, kind, function) for leaf in tree])
    if isinstance(tree, dict):
        return {name: mapped(leaf, kind, function) for name, leaf in tree.items()}
    return tree


def shaped(tree: Any) -> Any:
    """`tree` with a `Shaped` in place of each tensor."""
    return mapped(tree, torch.Tensor, lambda t: Shaped(tuple(t.shape), t.dtype))


def leaves(tree: Any) -> tuple[Shaped, ...]:
    """Every `Shaped` in `tree`."""
    shapes: list[Shaped] = []
    mapped(tree, Shaped, shapes.append)
    return tuple(shapes)


@dataclass(frozen=True, slots=True)
class Operation:
    """One ATen operation, as it is dispatched below autograd.

    `module` is the path of the innermost module it ran in (`layer1.0.bn2`, empty for the model
    itself) and `layer` that module's class; `call` the number of the call it came from
    (`Trace.calls`), None for one that no call shows; `declared` is True inside a module that
    declares its own cost (`paper_flops`).
    """

    overload: torch._ops.OpOverload
    args: tuple
    kwargs: dict[str, Any]
    output: Any
    module: str
    layer: str
    call: int | None
    declared: bool

    @property
    def name(self) -> str:
        """The operation without namespace and overload: `convolution`."""
        return self.overload.overloadpacket.__name__

    @property
    def inputs(self) -> tuple[Shaped, ...]:
        """The tensors among its arguments."""
        return leaves((self.args, self.kwargs))

    @property
    def outputs(self) -> tuple[Shaped, ...]:
        """The tensors it returned."""
        return leaves(self.output)

    @property
    def moves_only(self) -> bool:
        """True for views, allocations, copies and integer bookkeeping, which no rule counts as
        floating-point operations. A product of integers does count.
        """
        if self.name in PRODUCTS:
            return False
        schema = self.overload._schema
        view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
        return (
            view
            or self.name in _MOVES
            or not any(t.dtype.is_floating_point or t.dtype.is_complex for t in self.outputs)
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One call of an operation as the program wrote it, above autograd: `linear`, where `addmm` is
    dispatched. What torch.jit.trace records, and so what fvcore sees.

    `name` has its namespace (`aten::linear`); `args` are all arguments in the order of the schema,
    defaults filled in. `function` names the custom autograd Function, the TorchScript function or
    the control flow operator that it ran inside of, if any (`prim::PythonOp.Gate`), and
    `function_call` is a number that differs between its calls. `used` is whether the result
    reaches the model's output.
    """

    name: str
    args: tuple
    output: Any
    module: str
    layer: str
    declared: bool
    function: str
    function_call: int
    used: bool


PRODUCTS = frozenset(
    (
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "mv",
        "addmv",
        "dot",
        "vdot",
        "_int_mm",
        "_scaled_mm",
        "convolution",
    )
)
"""Matrix products and convolutions, which count whatever the type of their elements."""

_MOVES = frozenset(
    (
        "empty",
        "empty_like",
        "empty_strided",
        "empty_permuted",
        "new_empty",
        "new_empty_strided",
        "zeros",
        "zeros_like",
        "new_zeros",
        "ones",
        "ones_like",
        "new_ones",
        "full",
        "full_like",
        "new_full",
        "eye",
        "arange",
        "scalar_tensor",
        "lift_fresh_copy",
        "fill",
        "fill_",
        "zero_",
        "clone",
        "copy",
        "copy_",
        "_to_copy",
        "contiguous",
        "_unsafe_view",
        "_reshape_copy",
        "cat",
        "stack",
        "repeat",
        "constant_pad_nd",
        "reflection_pad1d",
        "reflection_pad2d",
        "reflection_pad3d",
        "replication_pad1d",
        "replication_pad2d",
        "replication_pad3d",
        "index_select",
        "gather",
        "roll",
        "flip",
        "tril",
        "triu",
        "diag_embed",
        "where",
        "isfinite",
        "_linalg_check_errors",
        "squeeze_",
        "unsqueeze_",
        "transpose_",
        "t_",
    )
)


@dataclass(frozen=True, slots=True)
class Declared:
    """The cost in paper FLOPs that the module at path `module` declared for one call of itself on
    an input of `shape`.
    """

    module: str
    layer: str
    shape: tuple[int, ...]
    flops: int


@dataclass(frozen=True)
class Trace:
    """One forward pass of one model.

    `mode` is `train` or `eval`; `parameters` the elements of all parameters; `saved_bytes` what
    autograd holds for the backward pass (flops/memory.py).
    """

    operations: tuple[Operation, ...]
    calls: tuple[Call, ...]
    declared: tuple[Declared, ...]
    mode: str
    parameters: int
    saved_bytes: int
