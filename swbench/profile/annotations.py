"""Marks in the profiler's timeline: which module and which part of a whitening layer is at work.
Installed for profiled calls only.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd
from torch.profiler import record_function

from swbench.norms.kernels.passes import Passes
from swbench.norms.layers import Whiten2d
from swbench.profile import operators
from swbench.profile.types import CONV, NORM, OTHER
from swbench.solvers.base import Solver

PREFIX = "swbench/"
LAYER, PART, PHASE = (f"{PREFIX}{name}/" for name in ("layer", "part", "phase"))

_KERNELS = {
    "moments": operators.MOMENTS,
    "products": operators.MOMENTS,
    "affine": operators.APPLY,
    "combine": operators.APPLY,
    "mix_and_solve": operators.ALGEBRA,
    "small_gradients": operators.ALGEBRA,
}
_SOLVERS = {"forward": operators.SOLVE, "gradient": operators.SOLVE}
"""Methods of the two contracts -> the operator they are. The solver runs inside the algebra, and
what is nested counts for itself alone.
"""


def kind_of(module: nn.Module) -> str:
    """`conv`, `norm` or `other`. A norm is torch's, ours, or any module that declares its cost
    (`paper_flops`).
    """
    if isinstance(module, _ConvNd):
        return CONV
    normal = isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm, Whiten2d))
    return NORM if normal or hasattr(module, "paper_flops") else OTHER


def rows(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of `model` that get a row, by path: all of them, but nothing inside a norm, which
    is one row.
    """
    found: dict[str, nn.Module] = {}
    within: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if not path.startswith(within):
            found[path] = module
            if kind_of(module) == NORM:
                within += (f"{path}." if path else "",)
    return found


@contextlib.contextmanager
def marked(model: nn.Module) -> Iterator[None]:
    """While it lasts, every module, backend and solver announces itself to the profiler. Numbers
    do not change; nothing stays behind.

    No hook touches a backward pass: those break modules that work in place. Native kernels, called
    past torch, show as the time of the mark around them.
    """
    with contextlib.ExitStack() as stack:
        for path, module in rows(model).items():
            _mark_module(stack, module, LAYER + path)
        for contract, methods in ((Passes, _KERNELS), (Solver, _SOLVERS)):
            for cls in (contract, *_descendants(contract)):
                for method in methods.keys() & vars(cls).keys():
                    original = vars(cls)[method]
                    if not getattr(original, "__isabstractmethod__", False):
                        setattr(cls, method, _announced(original, PART + methods[method]))
                        stack.callback(setattr, cls, method, original)
        yield


def _mark_module(stack: contextlib.ExitStack, module: nn.Module, name: str) -> None:
    open_ranges: list[record_function] = []

    def enter(_module: nn.Module, _inputs: tuple) -> None:
        open_ranges.append(record_function(name))
        open_ranges[-1].__enter__()

    def leave(_module: nn.Module, _inputs: tuple, _output: object) -> None:
        open_ranges.pop().__exit__(None, None, None)

    stack.callback(module.register_forward_pre_hook(enter).remove)
    stack.callback(module.register_forward_hook(leave, always_call=True).remove)


def _announced(method: Callable, name: str) -> Callable:
    @functools.wraps(method)
    def call(*args, **kwargs):
        with record_function(name):
            return method(*args, **kwargs)

    return call


def _descendants(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from _descendants(child)
