"""Recording a trace: one forward pass under a dispatch mode, on the `meta` device where the model
allows it.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from swbench.flops.memory import SavedTensors
from swbench.flops.trace import Declared, Operation, Trace, shaped

TRAIN, EVAL = "train", "eval"


def record(model: nn.Module, inputs: tuple[Tensor, ...], mode: str | None = None) -> Trace:
    """The trace of `model(*inputs)` in `mode` (`train`, `eval`, or None: as the model is).

    Parameters and buffers stay as they are: the pass runs on stand-ins on the `meta` device, so
    nothing is computed and a large image costs no more than a small one. A model that needs values
    (`.item()`, or constants of its own on another device) runs once for real, on copies of its
    buffers.
    """
    if mode not in (None, TRAIN, EVAL):
        raise ValueError(f"mode must be {TRAIN!r}, {EVAL!r} or None, not {mode!r}")
    with _in_mode(model, mode):
        try:
            return _run(model, inputs, lambda t: torch.empty_like(t, device="meta"))
        except (NotImplementedError, RuntimeError, TypeError):
            if any(t.is_meta for t in model.state_dict(keep_vars=True).values()):
                raise
        return _run(model, inputs, torch.clone)


def _run(
    model: nn.Module, inputs: tuple[Tensor, ...], stand_in: Callable[[Tensor], Tensor]
) -> Trace:
    with torch.no_grad():
        tensors = {
            name: stand_in(t) for name, t in (*model.named_parameters(), *model.named_buffers())
        }
        given = tuple(stand_in(x) for x in inputs)
    for name, parameter in model.named_parameters():
        tensors[name].requires_grad_(parameter.requires_grad)
    recorder, saved = _Recorder(), SavedTensors(tensors.values())
    with contextlib.ExitStack() as hooks:
        for path, module in model.named_modules():
            hooks.enter_context(
                _removed(
                    module.register_forward_pre_hook(recorder.entering(path), with_kwargs=True)
                )
            )
            hooks.enter_context(
                _removed(module.register_forward_hook(recorder.leaving, always_call=True))
            )
        # Autograd runs in both modes, so that a layer takes the path it takes in training; only
        # `saved` reads what it keeps.
        with torch.enable_grad(), saved.hooks(), _Functions(recorder), _Operations(recorder):
            torch.func.functional_call(model, tensors, given)
    parameters = sum(p.numel() for p in model.parameters())
    return Trace(
        tuple(recorder.operations),
        tuple(recorder.declared),
        TRAIN if model.training else EVAL,
        parameters,
        saved.nbytes,
    )


class _Recorder:
    """The state that hooks and modes share while a pass runs."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []
        self.declared: list[Declared] = []
        self._stack: list[tuple[str, str, bool]] = [("", "", False)]
        self.function, self.call = "", 0

    def entering(self, path: str) -> Callable:
        """A forward pre-hook for the module at `path`."""

        def hook(module: nn.Module, args: tuple, kwargs: dict) -> None:
            _, _, within = self._stack[-1]
            cost = getattr(module, "paper_flops", None)
            if cost is not None and not within:
                x = next(a for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
                shape = tuple(x.shape)
                self.declared.append(Declared(path, type(module).__name__, shape, int(cost(shape))))
            self._stack.append((path, type(module).__name__, within or cost is not None))

        return hook

    def leaving(self, _module: nn.Module, _args: tuple, _output: Any) -> None:
        """A forward hook."""
        self._stack.pop()

    def add(self, overload: torch._ops.OpOverload, args: tuple, kwargs: dict, output: Any) -> None:
        """Record one operation at the present place."""
        path, layer, declared = self._stack[-1]
        shapes = (shaped(args), shaped(kwargs), shaped(output))
        self.operations.append(
            Operation(overload, *shapes, path, layer, self.function, self.call, declared)
        )


class _Operations(TorchDispatchMode):
    """Sees each ATen operation below autograd, so also those inside a custom autograd Function."""

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        output = (
            _batch_norm(*args) if func is _BATCH_NORM and args[0].is_meta else func(*args, **kwargs)
        )
        self._recorder.add(func, args, kwargs, output)
        return output


_BATCH_NORM = torch.ops.aten.native_batch_norm.default


def _batch_norm(
    x: Tensor, weight, bias, running_mean, running_var, training: bool, momentum: float, eps: float
) -> tuple[Tensor, ...]:
    """What batch normalisation returns on the meta device, at a tenth of the time of torch's
    decomposition: y, and the saved mean and 1/σ.
    """
    saved = x.new_empty(
        x.shape[1] if training else 0, dtype=torch.promote_types(x.dtype, torch.float32)
    )
    return torch.empty_like(x), saved, torch.empty_like(saved)


class _Functions(TorchFunctionMode):
    """Notes the public function an operation comes from: `adaptive_avg_pool2d` arrives at dispatch
    as `mean`.
    """

    def __init__(self, recorder: _Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(self, func, types, args=(), kwargs=None):
        recorder = self._recorder
        recorder.function, recorder.call = getattr(func, "__name__", ""), recorder.call + 1
        try:
            return func(*args, **(kwargs or {}))
        finally:
            recorder.function = ""


@contextlib.contextmanager
def _removed(handle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def _in_mode(model: nn.Module, mode: str | None) -> Iterator[None]:
    before = {module: module.training for module in model.modules()}
    try:
        if mode is not None:
            model.train(mode == TRAIN)
        yield
    finally:
        for module, training in before.items():
            module.training = training
