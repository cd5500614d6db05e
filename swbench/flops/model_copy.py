"""Copies of models, with tensors on the `meta` device or with copied values, so that running the
copy does not change the model.
"""

import contextlib
import copy
import enum
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from swbench.errors import NotCounted

_CONSTANTS = frozenset(
    (
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        range,
        type,
        type(...),
        property,
        types.BuiltinFunctionType,
        types.ModuleType,
        types.CodeType,
        torch.dtype,
        torch.device,
        torch.layout,
        torch.memory_format,
        torch.Size,
        torch.fx.Graph,
    )
)
"""Shared by a copy: these never change, or (a Graph) nothing changes them while a model runs."""

TensorCopy = Callable[[Tensor], Tensor]


def on_meta(tensor: Tensor) -> Tensor:
    """A tensor on `meta`, without memory, with the shape, strides and dtype of `tensor`."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")


def with_values(device: torch.device) -> TensorCopy:
    """A function that copies a tensor with its values. One on `meta`, without values, gets values
    in [0, 1) on `device`, the same in every call.
    """
    generator = torch.Generator(device).manual_seed(0)

    def copy_tensor(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor.detach().clone()
        if not tensor.is_floating_point():
            return torch.zeros_like(tensor, device=device)
        return torch.rand(tensor.shape, dtype=tensor.dtype, device=device, generator=generator)

    return copy_tensor


class ModelCopier:
    """Copies a model and everything attached to it, each tensor by `copy_tensor`.

    One object has one copy, however many paths lead to it: tied parameters stay tied. Copied are
    modules with all their attributes, hooks and caches, containers, objects, bound methods, and
    closures, so that a hook that collects features collects them in a copy. Shared are constants,
    functions without a closure, and objects that cannot be copied (a lock, an open file, a process
    group). Raises NotCounted for modules and tensors that no rule can count.
    """

    def __init__(self, copy_tensor: TensorCopy) -> None:
        self._copy_tensor = copy_tensor
        self._memo: dict[int, Any] = {}
        self._originals: list[Any] = []  # alive, so that no address is used twice
        self._place = ""

    def fresh(self) -> "ModelCopier":
        """A copier that has copied nothing yet."""
        return ModelCopier(self._copy_tensor)

    def model(self, model: nn.Module) -> nn.Module:
        """The copy of `model`."""
        named = list(model.named_modules())
        for path, module in named:
            refuse(path, module)
            self._remember(module, object.__new__(type(module)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of copying what torch or Python deprecates
            for path, module in named:
                self._place = path
                self._fill(module)
        self._place = ""
        return self(model)

    def __call__(self, thing: Any) -> Any:
        """The copy of `thing`."""
        kind = type(thing)
        if kind in _CONSTANTS:
            return thing
        if (known := self._memo.get(id(thing))) is not None:
            return known
        if isinstance(thing, nn.Module):  # one that named_modules() does not reach
            refuse(self._place, thing)
            self._remember(thing, object.__new__(type(thing)))
            return self._fill(thing)
        if (method := _COPIES.get(kind)) is not None:
            return method(self, thing)
        if isinstance(thing, type | enum.Enum):
            return thing
        return self._tensor(thing) if isinstance(thing, Tensor) else self._object(thing)

    def _remember(self, thing: Any, other: Any) -> Any:
        self._memo[id(thing)] = other
        self._originals.append(thing)
        return other

    def _fill(self, module: nn.Module) -> nn.Module:
        other = self._memo[id(module)]
        for name, value in vars(module).items():
            other.__dict__[name] = self(value)
        for kind in type(module).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(module, name):
                    object.__setattr__(other, name, self(getattr(module, name)))
        return other

    def _tensor(self, tensor: Tensor) -> Tensor:
        _refuse_tensor(self._place, tensor)
        kind = type(tensor)
        if isinstance(tensor, UninitializedTensorMixin):
            device = self._copy_tensor(torch.empty(0, device=tensor.device)).device
            options = {"device": device, "dtype": tensor.dtype}
            other = kind(requires_grad=tensor.requires_grad, **options)
            return self._remember(tensor, other)
        other = self._copy_tensor(tensor)
        if kind is not Tensor:
            other = other.as_subclass(kind)
        if other.is_floating_point() or other.is_complex():
            other.requires_grad_(tensor.requires_grad)
        self._remember(tensor, other)
        for name, value in vars(tensor).items():
            other.__dict__[name] = self(value)
        return other

    def _dict(self, thing: dict) -> dict:
        other = self._remember(thing, type(thing)())
        for name, value in thing.items():
            other[self(name)] = self(value)
        return other

    def _list(self, thing: list) -> list:
        other = self._remember(thing, [])
        other.extend(self(value) for value in thing)
        return other

    def _tuple(self, thing: tuple) -> tuple:
        return self._remember(thing, tuple(self(value) for value in thing))

    def _method(self, thing: types.MethodType) -> types.MethodType:
        return self._remember(thing, types.MethodType(thing.__func__, self(thing.__self__)))

    def _function(self, thing: types.FunctionType) -> types.FunctionType:
        if not thing.__closure__:
            return thing
        cells = tuple(types.CellType() for _ in thing.__closure__)
        other = types.FunctionType(
            thing.__code__, thing.__globals__, thing.__name__, thing.__defaults__, cells
        )
        other.__kwdefaults__, other.__qualname__ = thing.__kwdefaults__, thing.__qualname__
        self._remember(thing, other)
        for cell, source in zip(cells, thing.__closure__, strict=True):
            with contextlib.suppress(ValueError):  # a name that has no value yet
                cell.cell_contents = self(source.cell_contents)
        for name, value in vars(thing).items():
            other.__dict__[name] = self(value)
        return other

    def _reference(self, thing: weakref.ref) -> weakref.ref:
        target = thing()
        known = isinstance(target, Tensor) or id(target) in self._memo
        return weakref.ref(self(target)) if known else thing

    def _generator(self, thing: torch.Generator) -> torch.Generator:
        other = torch.Generator(thing.device)
        other.set_state(thing.get_state())
        return self._remember(thing, other)

    def _object(self, thing: Any) -> Any:
        before = len(self._originals)
        try:
            if hasattr(thing, "__deepcopy__"):
                return self._remember(thing, thing.__deepcopy__(self._memo))
            reduced = thing.__reduce_ex__(4)
            if isinstance(reduced, str):
                return thing
            # a copy that holds itself is known from here on: _reconstruct enters it in the memo
            other = copy._reconstruct(thing, self._memo, *reduced, deepcopy=self._part)
        except NotCounted:
            raise
        except Exception:  # noqa: BLE001  whatever refuses to be copied is shared
            for original in self._originals[before:]:
                self._memo.pop(id(original), None)
            return self._remember(thing, thing)
        return self._remember(thing, other)

    def _part(self, thing: Any, _memo: dict) -> Any:
        if id(thing) not in self._memo:
            self._originals.append(thing)
        return self(thing)


_COPIES: dict[type, Callable] = {
    Tensor: ModelCopier._tensor,
    nn.Parameter: ModelCopier._tensor,
    dict: ModelCopier._dict,
    OrderedDict: ModelCopier._dict,
    list: ModelCopier._list,
    tuple: ModelCopier._tuple,
    types.MethodType: ModelCopier._method,
    types.FunctionType: ModelCopier._function,
    weakref.ref: ModelCopier._reference,
    torch.Generator: ModelCopier._generator,
}


def refuse(path: str, module: nn.Module) -> None:
    """Raises NotCounted for a module at `path` whose operations cannot be traced."""
    if isinstance(module, torch.jit.ScriptModule):
        raise NotCounted(
            f"{_describe(path, module)} is TorchScript, whose operations run outside of Python; "
            "count the nn.Module that it was made from"
        )
    if ".quantized" in type(module).__module__:
        raise NotCounted(
            f"{_describe(path, module)} is quantised, and no rule counts quantised operations; "
            "count the floating-point model that it was made from"
        )


def _refuse_tensor(path: str, tensor: Tensor) -> None:
    where = f"a tensor of {path!r}" if path else "a tensor of the model or its input"
    if tensor.is_quantized:
        raise NotCounted(
            f"{where} is quantised ({tensor.dtype}), and no rule counts quantised operations; "
            "count the floating-point model that it was made from"
        )
    if tensor.layout is not torch.strided or tensor.is_nested:
        layout = "nested" if tensor.is_nested else tensor.layout
        raise NotCounted(
            f"{where} is {layout}, and no rule counts operations on such tensors; "
            "make it dense (to_dense(), or to_padded_tensor() of a nested one)"
        )
    if is_traceable_wrapper_subclass(tensor):
        raise NotCounted(
            f"{where} is a {type(tensor).__name__}, which holds other tensors; count the model "
            "with plain parameters"
        )


def _describe(path: str, module: nn.Module) -> str:
    return f"{path or 'the model'!r} ({type(module).__name__})"
