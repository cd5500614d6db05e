"""The calls of a forward pass as the program wrote them (`linear`, not the `addmm` it becomes), by
the rules of torch.jit.trace, whose graph fvcore counts.
"""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from swbench.flops.trace import Call, Operation, shaped

_KEY_NAME = "TESTING_ONLY_GenericMode"
KEY = torch._C._parse_dispatch_key(_KEY_NAME)
_KEYS = torch._C.DispatchKeySet(KEY)
"""A dispatch key above autograd that no operator has a kernel for and that stands in a thread's key
set only where `Calls.active` puts it. The tracer's own key sits there too, but cannot be used:
tracing turns shapes into tensors, which the meta device does not take.
"""

_DECOMPOSED = frozenset(
    (
        "aten::conv1d",
        "aten::conv2d",
        "aten::conv3d",
        "aten::conv_transpose1d",
        "aten::conv_transpose2d",
        "aten::conv_transpose3d",
        "aten::lstm_cell",
        "aten::gru_cell",
        "aten::rnn_tanh_cell",
        "aten::rnn_relu_cell",
    )
)
"""Operations of which the tracer records the parts (torch, tools/autograd/gen_trace_type.py)."""

_RENAMED = {
    "aten::convolution": "aten::_convolution",
    "aten::linalg_matmul": "aten::matmul",
}
"""The first is called by the second inside the kernel, where the tracer records it; the second is
an alias to it (torch, csrc/jit/passes/normalize_ops.cpp).
"""

_STATISTICS = {"aten::batch_norm": "training", "aten::instance_norm": "use_input_stats"}
"""Operations that write running statistics if this argument is True, though their schema does not
say so.
"""

_APPLY = torch.autograd.Function.apply.__func__.__code__


@dataclass(frozen=True, slots=True)
class _Kind:
    """The properties of an operator that do not depend on the call."""

    name: str
    recorded: bool
    decomposed: bool
    arguments: tuple[tuple[str, Any], ...]
    written: tuple[str, ...]


@lru_cache(maxsize=4096)
def _kind(op: torch._ops.OpOverload) -> _Kind:
    schema = op._schema
    return _Kind(
        _RENAMED.get(schema.name, schema.name),
        any("Tensor" in str(r.type) for r in schema.returns),
        schema.name in _DECOMPOSED,
        tuple((a.name, a.default_value) for a in schema.arguments),
        tuple(a.name for a in schema.arguments if a.alias_info and a.alias_info.is_write),
    )


@dataclass(frozen=True, slots=True)
class _Opaque:
    """One call of a custom autograd Function or of a TorchScript function, by the tracer's name."""

    name: str
    number: int
    args: tuple
    frame: Any


class _Node:
    """A call before its use is known: the numbers of the values that it reads and makes, and the
    storages that it touches, writes to and makes values in. `unknown` are storages of tensors that
    no call made (a parameter, `x.detach()`).
    """

    __slots__ = ("call", "made", "made_in", "read", "touched", "unknown", "used", "written")

    def __init__(self, call: dict[str, Any], used: bool) -> None:
        self.call, self.used = call, used
        self.read: list[int] = []
        self.made: list[int] = []
        self.touched: list[int] = []
        self.unknown: list[int] = []
        self.written: list[int] = []
        self.made_in: list[int] = []


class Calls:
    """Records calls between `active` and `finished`. `place` returns the path and the class of the
    module that runs, and whether it declares its own cost; `inside` is the context that each call
    runs in, and `operations` what it adds to.
    """

    def __init__(
        self,
        place: Callable[[], tuple[str, str, bool]],
        inside: contextlib.AbstractContextManager,
        operations: list[Operation],
    ) -> None:
        self.operations = operations
        self._place, self._operations_mode = place, inside
        self._nodes: list[_Node] = []
        self._transformed: list[_Node] = []
        self._values = 0
        # alive, so that no address is used twice
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._function: _Opaque | None = None
        self._opaque_count = 0
        self.script: _Opaque | None = None
        self.current: int | None = None

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """A context in which the calls of this thread are recorded."""
        previous = getattr(_RECORDING, "calls", None)
        _RECORDING.calls = self
        try:
            with torch._C._IncludeDispatchKeyGuard(KEY):
                yield
        finally:
            _RECORDING.calls = previous
            self._function = None

    def run(self, op: torch._ops.OpOverload, args: tuple, kwargs: dict) -> Any:
        """Run `op` and record the call."""
        kind = _kind(op)
        if torch._C._functorch.maybe_current_level() is not None:
            # shapes are those of one row here; the dispatched operation has the full batch
            node = _Node({}, used=True)
            self._read(node, [_unwrapped(tensor) for tensor in _tensors((args, kwargs))])
            self._transformed.append(node)
            with torch._C._ExcludeDispatchKeyGuard(_KEYS), self._operations_mode:
                return op(*args, **kwargs)
        if kind.decomposed:
            output = op.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        if not kind.recorded:
            with torch._C._ExcludeDispatchKeyGuard(_KEYS), self._operations_mode:
                return op(*args, **kwargs)
        node = self._begin(kind, args, kwargs)
        previous, self.current = self.current, len(self._nodes) - 1
        try:
            with torch._C._ExcludeDispatchKeyGuard(_KEYS):
                with self._operations_mode:
                    output = op(*args, **kwargs)
                node.call["output"] = shaped(output)
                self._end(node, kind, args, kwargs, output)
        finally:
            self.current = previous
        return output

    def _begin(self, kind: _Kind, args: tuple, kwargs: dict) -> _Node:
        path, layer, declared = self._place()
        opaque = self._opaque()
        filled = tuple(
            args[i] if i < len(args) else kwargs.get(name, default)
            for i, (name, default) in enumerate(kind.arguments)
        )
        call = {
            "name": kind.name,
            "args": shaped(filled),
            "output": None,
            "module": path,
            "layer": layer,
            "declared": declared,
            "function": opaque.name if opaque else "",
            "function_call": opaque.number if opaque else 0,
        }
        node = _Node(call, used=opaque is not None)
        self._nodes.append(node)
        self._read(node, (args, kwargs))
        if opaque is not None:
            self._read(node, opaque.args)
        return node

    def _opaque(self) -> "_Opaque | None":
        """The current call of a function that is opaque to the tracer, if any."""
        if self.script is not None:
            return self.script
        frame = _function_frame()
        if frame is None:
            return None
        if self._function is None or self._function.frame is not frame:
            name, args = frame.f_locals["cls"].__name__, frame.f_locals["args"]
            # a reference to the frame, so that the next one is at another address
            self._function = self.open_opaque(f"prim::PythonOp.{name}", args, frame)
        return self._function

    def open_opaque(self, name: str, args: tuple, frame: Any = None) -> "_Opaque":
        """Begin a call of an opaque function."""
        self._opaque_count += 1
        return _Opaque(name, self._opaque_count, args, frame)

    def _read(self, node: _Node, tree: Any) -> None:
        for tensor in _tensors(tree):
            storage = self._storage(tensor)
            node.touched.append(storage)
            if (number := getattr(tensor, _NUMBER, None)) is not None:
                node.read.append(number)
            else:
                node.unknown.append(storage)

    def _end(self, node: _Node, kind: _Kind, args: tuple, kwargs: dict, output: Any) -> None:
        named_args = dict(zip((name for name, _ in kind.arguments), args, strict=False)) | kwargs
        names = kind.written
        if kind.name in _STATISTICS and named_args.get(_STATISTICS[kind.name]):
            names = ("running_mean",)
        written = [named_args.get(name) for name in names]
        node.written.extend(self._storage(tensor) for tensor in _tensors(written))
        for tensor in _tensors(([named_args.get(name) for name in kind.written], output)):
            self._values += 1
            setattr(tensor, _NUMBER, self._values)
            node.made.append(self._values)
            node.made_in.append(self._storage(tensor))

    def _storage(self, tensor: Tensor) -> int:
        storage = tensor.untyped_storage()
        return self._storages.setdefault(storage._cdata, storage)._cdata

    def finished(self, result: Any, inputs: Iterable[Tensor]) -> tuple[Call, ...]:
        """All calls, marked as used or not, from the output of the model and its parameters,
        buffers and inputs.
        """
        live = _Node({}, used=True)
        self._read(live, result)
        persistent = {self._storage(tensor) for tensor in inputs}
        _mark_used([*self._nodes, *self._transformed], live, persistent)
        return tuple(Call(**node.call, used=node.used) for node in self._nodes)


_NUMBER = "_swbench_value"
_RECORDING = threading.local()


def _mark_used(nodes: list[_Node], result: _Node, persistent: set[int]) -> None:
    """Mark each node that leads to `result`, or to a write into storage that a marked node touches
    or that is `persistent`; the tracer drops the others. A custom Function is always marked.
    """
    values, unknown = set(result.read), set(result.unknown)
    storages = persistent | set(result.touched)
    unmarked = nodes[::-1]
    while unmarked:
        remaining = []
        for node in unmarked:
            if (
                node.used
                or not values.isdisjoint(node.made)
                or not storages.isdisjoint(node.written)
                or not unknown.isdisjoint(node.made_in)
            ):
                node.used = True
                values.update(node.read)
                storages.update(node.touched, node.made_in)
                unknown.update(node.unknown)
            else:
                remaining.append(node)
        if len(remaining) == len(unmarked):
            return
        unmarked = remaining


def _tensors(tree: Any) -> list[Tensor]:
    tensors: list[Tensor] = []
    _collect(tree, tensors, set())
    return tensors


def _collect(tree: Any, tensors: list[Tensor], seen: set[int]) -> None:
    if isinstance(tree, Tensor):
        tensors.append(tree)
    elif isinstance(tree, tuple | list):
        for leaf in tree:
            _collect(leaf, tensors, seen)
    elif isinstance(tree, dict):
        _collect(list(tree.values()), tensors, seen)
    elif hasattr(tree, "__dict__") and not isinstance(tree, type) and id(tree) not in seen:
        seen.add(id(tree))  # a result object: its attributes
        _collect(list(vars(tree).values()), tensors, seen)


def _unwrapped(tensor: Tensor) -> Tensor:
    """The tensor inside the wrappers of torch.func's transforms (vmap, grad)."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def _function_frame() -> Any:
    """The frame of the current call of a custom autograd Function, if any."""
    frame = sys._getframe(4)
    while frame is not None:
        if frame.f_code is _APPLY:
            return frame
        frame = frame.f_back
    return None


_SCRIPTED = torch.jit.ScriptFunction.__call__


def _script_called(function: Any, *args: Any, **kwargs: Any) -> Any:
    """A TorchScript function as it is called, noticed where this thread records."""
    calls = getattr(_RECORDING, "calls", None)
    if calls is None or calls.script is not None:
        return _SCRIPTED(function, *args, **kwargs)
    calls.script = calls.open_opaque("prim::CallFunction", (args, kwargs))
    try:
        return _SCRIPTED(function, *args, **kwargs)
    finally:
        calls.script = None


def recording() -> Calls:
    """What records the calls of this thread now."""
    return _RECORDING.calls


def _called(op: torch._ops.OpOverload, *args: Any, **kwargs: Any) -> Any:
    return _RECORDING.calls.run(op, args, kwargs)


# Once and for all threads: these act only where a thread records.
torch.jit.ScriptFunction.__call__ = _script_called
_LIBRARY = torch.library.Library("_", "IMPL")
_LIBRARY.fallback(_called, _KEY_NAME)
_ATEN = torch.library.Library("aten", "IMPL")
for _name in ("detach", "alias"):
    # nn.Parameter(x) and x.as_subclass(…) give what these return a class, which it may not have yet
    _ATEN.impl(_name, torch.library.fallthrough_kernel, _KEY_NAME)
