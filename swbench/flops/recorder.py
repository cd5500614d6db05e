"""Recording a trace: one forward pass of a copy of the model, on the `meta` device where the model
allows it.
"""

import contextlib
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedTensorMixin
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

from swbench.errors import NotCounted
from swbench.flops.calls import Calls
from swbench.flops.control import prepare
from swbench.flops.memory import SavedTensors
from swbench.flops.model_copy import ModelCopier, on_meta, with_values
from swbench.flops.trace import Declared, Operation, Trace, mapped, shaped

TRAIN, EVAL = "train", "eval"


def record(
    model: nn.Module,
    inputs: tuple[Any, ...],
    mode: str | None = None,
    named: Mapping[str, Any] | None = None,
) -> Trace:
    """The trace of `model(*inputs, **named)` in `mode` (`train`, `eval`, or None: as the model is).

    The model stays as it is, whatever its forward pass does and whether it succeeds: the pass runs
    on a copy of it (`ModelCopier`) on the `meta` device, so nothing is computed and a large image
    costs no more than a small one, and the random state is put back. A model that needs values
    (`.item()`) runs once for real, on a copy with values; an input on `meta` gets some. So does, on
    inputs of up to 16 million elements, one that fails on `meta` for another reason: the error is
    then that of a real pass. Raises NotCounted for a model that no trace shows.
    """
    if mode not in (None, TRAIN, EVAL):
        raise ValueError(f"mode must be {TRAIN!r}, {EVAL!r} or None, not {mode!r}")
    inputs = (tuple(inputs), dict(named or {}))
    with _global_state_restored():
        try:
            return _eager(model, inputs, mode, ModelCopier(on_meta), real=False)
        except NotCounted:
            raise
        except Exception as problem:
            if _has_no_values(model) or not (_needs_values(problem) or _is_small(inputs)):
                raise
        return _eager(model, inputs, mode, ModelCopier(with_values(_device(model))), real=True)


def _eager(
    model: nn.Module, inputs: tuple[tuple, dict], mode: str | None, copier: ModelCopier, real: bool
) -> Trace:
    """The trace with compiled regions run eagerly. Importing the compiler takes seconds, so only a
    pass that imported it is repeated without it.
    """
    loaded = _compiler_loaded()
    try:
        trace = _run(model, inputs, mode, copier, real)
    except Exception:
        if loaded or not _compiler_loaded():
            raise
        trace = None
    if trace is not None and loaded == _compiler_loaded():
        return trace
    return _run(model, inputs, mode, copier.fresh(), real)


def _compiler_loaded() -> bool:
    return "torch._dynamo" in sys.modules


def _run(
    model: nn.Module, inputs: tuple[tuple, dict], mode: str | None, copier: ModelCopier, real: bool
) -> Trace:
    net = copier.model(model)
    try:
        args, kwargs = copier(inputs)
    except (RuntimeError, MemoryError) as problem:
        if not real:
            raise
        raise NotCounted(
            f"{type(model).__name__} reads values, which only a real input has, and there is no "
            "memory for one of this shape; count a smaller one"
        ) from problem
    if mode is not None:
        net.train(mode == TRAIN)
    prepare()
    recorder = _Recorder()
    known = [
        t
        for t in (*net.parameters(), *net.buffers())
        if not isinstance(t, UninitializedTensorMixin)
    ]
    saved = SavedTensors(known)
    mapped((args, kwargs), Tensor, known.append)
    for path, module in net.named_modules():
        module.register_forward_pre_hook(recorder.entering(path), prepend=True, with_kwargs=True)
        module.register_forward_hook(recorder.leaving, always_call=True)
    training = net.training
    # Autograd runs in both modes, so that a layer takes the path it takes in training; only `saved`
    # reads what it keeps.
    with (
        torch.enable_grad(),
        saved.hooks(),
        _settings_as_on_meta(real),
        _disable_current_modes(),
        recorder.calls.active(),
    ):
        result = net(*args, **kwargs)
    return Trace(
        tuple(recorder.operations),
        recorder.calls.finished(result, known),
        tuple(recorder.declared),
        TRAIN if training else EVAL,
        sum(p.numel() for p in net.parameters() if not isinstance(p, UninitializedTensorMixin)),
        saved.nbytes,
    )


class _Recorder:
    """The state that hooks and modes share while a pass runs."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.declared: list[Declared] = []
        self._stack: list[tuple[str, str, bool]] = [("", "", False)]
        self.calls = Calls(lambda: self._stack[-1], _Operations(self), self.operations)

    def entering(self, path: str) -> Callable:
        """A forward pre-hook for the module at `path`."""

        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            _, _, within = self._stack[-1]
            cost = getattr(module, "paper_flops", None)
            if cost is not None and not within:
                shape = _first_shape(path, module, (args, kwargs))
                self.declared.append(Declared(path, type(module).__name__, shape, int(cost(shape))))
            self._stack.append((path, type(module).__name__, within or cost is not None))

        return hook

    def leaving(self, _module: nn.Module, _args: tuple, _output: Any) -> None:
        """A forward hook."""
        self._stack.pop()

    def add(self, overload: torch._ops.OpOverload, args: tuple, kwargs: dict, output: Any) -> None:
        """Record one operation at the present place."""
        shapes = (shaped(args), shaped(kwargs), shaped(output))
        path, layer, declared = self._stack[-1]
        self.operations.append(
            Operation(overload, *shapes, path, layer, self.calls.current, declared)
        )


def _first_shape(path: str, module: nn.Module, inputs: tuple) -> tuple[int, ...]:
    tensors: list[Tensor] = []
    mapped(inputs, Tensor, tensors.append)
    if not tensors:
        raise NotCounted(
            f"{path or 'the model'!r} ({type(module).__name__}) has a method paper_flops(shape), "
            "but was called without a tensor"
        )
    return tuple(tensors[0].shape)


class _Operations(TorchDispatchMode):
    """Records each ATen operation below autograd, also those inside a custom autograd Function."""

    def __init__(self, recorder: "_Recorder") -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if _is_composite(func):
            # under inference_mode they are not decomposed
            with self:
                output = func.decompose(*args, **kwargs)
            if output is not NotImplemented:
                return output
        shortcut = _SHORTCUTS.get(func)
        if shortcut is not None and args[0].is_meta:
            output = shortcut(*args, **kwargs)
        else:
            try:
                output = func(*args, **kwargs)
            except (RuntimeError, NotImplementedError):
                moved = _to_meta(func, args, kwargs)
                if moved is None:
                    raise
                output = func(*moved[0], **moved[1])
        self._recorder.add(func, args, kwargs, output)
        return output


@lru_cache(maxsize=4096)
def _is_composite(func: torch._ops.OpOverload) -> bool:
    return torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd")


def _to_meta(func: torch._ops.OpOverload, args: tuple, kwargs: dict) -> tuple | None:
    """The arguments with all tensors on `meta`, where only some are: a constant that the model
    makes on the CPU, and a copy of its input. None where nothing can be moved, or the operation
    would write to a moved tensor.
    """
    tensors: list[Tensor] = []
    mapped((args, kwargs), Tensor, tensors.append)
    if all(t.is_meta for t in tensors) or not any(t.is_meta for t in tensors):
        return None
    if func._schema.is_mutable and not args[0].is_meta:
        return None
    return mapped((args, kwargs), Tensor, lambda t: t if t.is_meta else on_meta(t))


def _empty_like(x: Tensor) -> Tensor:
    """`torch.empty_like`, without its decomposition on the meta device."""
    return x.new_empty(x.shape) if x.is_contiguous() else torch.empty_like(x)


def _batch_norm(
    x: Tensor, weight, bias, running_mean, running_var, training: bool, momentum: float, eps: float
) -> tuple[Tensor, ...]:
    """The outputs of batch normalisation on the meta device (y, and the saved mean and 1/σ), in a
    tenth of the time of torch's decomposition.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    saved = x.new_empty(x.shape[1] if training else 0, dtype=dtype)
    return _empty_like(x), saved, on_meta(saved)


def _layer_norm(x: Tensor, normalized_shape, weight, bias, eps: float) -> tuple[Tensor, ...]:
    """The outputs of layer normalisation on the meta device."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    batch_dims = len(x.shape) - len(normalized_shape)
    saved = x.new_empty((*x.shape[:batch_dims], *(1 for _ in normalized_shape)), dtype=dtype)
    return x.new_empty(x.shape), saved, on_meta(saved)


def _elementwise(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return _empty_like(x)


def _in_place(x: Tensor, *_: Any, **__: Any) -> Tensor:
    return x


_ATEN = torch.ops.aten
_SHORTCUTS: dict[Any, Callable] = {
    _ATEN.native_batch_norm.default: _batch_norm,
    _ATEN.native_layer_norm.default: _layer_norm,
    **{
        operation.default: shortcut
        for name in ("relu", "silu", "gelu", "hardswish", "sigmoid", "tanh")
        for operation, shortcut in (
            (getattr(_ATEN, name), _elementwise),
            (getattr(_ATEN, f"{name}_"), _in_place),
        )
    },
}
"""Replacements on the meta device of operations that run in every layer, several times as fast as
torch's decompositions in Python.
"""


def _needs_values(problem: BaseException) -> bool:
    """Whether a pass failed because of the `meta` device, and not by an error of the model: torch
    names the device, or has no kernel for it.
    """
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, NotImplementedError) or "meta" in str(cause).lower():
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _is_small(inputs: tuple[tuple, dict]) -> bool:
    tensors: list[Tensor] = []
    mapped(inputs, Tensor, tensors.append)
    return sum(t.numel() for t in tensors) <= _SMALL


_SMALL = 2**24
"""Elements; about the largest image that a pass on a CPU takes seconds for (a heuristic)."""


def _has_no_values(model: nn.Module) -> bool:
    return any(t.is_meta for t in (*model.parameters(), *model.buffers()))


def _device(model: nn.Module) -> torch.device:
    return next((p.device for p in model.parameters()), torch.device("cpu"))


@contextlib.contextmanager
def _settings_as_on_meta(real: bool) -> Iterator[None]:
    """A context in which a pass takes the same path on every device: products in place of fused
    attention, and compiled regions run eagerly.
    """
    with contextlib.ExitStack() as settings:
        if real:
            fast = torch.backends.mha.get_fastpath_enabled()
            settings.callback(torch.backends.mha.set_fastpath_enabled, fast)
            torch.backends.mha.set_fastpath_enabled(False)
            settings.enter_context(
                torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
            )
        if _compiler_loaded():
            settings.enter_context(torch.compiler.set_stance("force_eager"))
        yield


@contextlib.contextmanager
def _global_state_restored() -> Iterator[None]:
    """A context that restores global state: every random state and the grad modes."""
    numpy = sys.modules.get("numpy")
    states: list[tuple[Callable, Any]] = [
        (random.setstate, random.getstate()),
        (torch.set_rng_state, torch.get_rng_state()),
    ]
    if numpy is not None:
        states.append((numpy.random.set_state, numpy.random.get_state()))
    if torch.cuda.is_initialized():
        states.append((torch.cuda.set_rng_state_all, torch.cuda.get_rng_state_all()))
    try:
        with torch.inference_mode(False):
            yield
    finally:
        for restore, state in states:
            restore(state)
