"""Annotations in the profiler's timeline that name the running module and the part of a whitening
layer. They are installed for profiled calls only.
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

_PASS_OPERATORS = {
    "moments": operators.MOMENTS,
    "products": operators.MOMENTS,
    "affine": operators.APPLY,
    "combine": operators.APPLY,
    "mix_and_solve": operators.ALGEBRA,
    "small_gradients": operators.ALGEBRA,
}
_SOLVER_OPERATORS = {"forward": operators.SOLVE, "gradient": operators.SOLVE}
"""Methods of the two contracts -> their operator. The solver runs inside the algebra, and nested
time counts only for the inner operator.
"""


def kind_of(module: nn.Module) -> str:
    """`conv`, `norm` or `other`. A norm is torch's, ours, or any module that declares its cost
    (`paper_flops`).
    """
    if isinstance(module, _ConvNd):
        return CONV
    is_norm = isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm, Whiten2d))
    return NORM if is_norm or hasattr(module, "paper_flops") else OTHER


def profiled_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of `model` that get a row, by path: all modules, except those inside a norm,
    which is one row.
    """
    modules: dict[str, nn.Module] = {}
    norm_prefixes: tuple[str, ...] = ()
    for path, module in model.named_modules():
        if not path.startswith(norm_prefixes):
            modules[path] = module
            if kind_of(module) == NORM:
                norm_prefixes += (f"{path}." if path else "",)
    return modules


@contextlib.contextmanager
def annotated(model: nn.Module) -> Iterator[None]:
    """A context in which every module, backend and solver annotates itself in the profiler. It does
    not change results, and it removes its hooks at the end.

    There are no backward hooks, because they break modules that work in place. Native kernels,
    which torch does not see, show as the time of the annotation around them.
    """
    with contextlib.ExitStack() as stack:
        for path, module in profiled_modules(model).items():
            _annotate_module(stack, module, LAYER + path)
        for contract, methods in ((Passes, _PASS_OPERATORS), (Solver, _SOLVER_OPERATORS)):
            for cls in (contract, *_descendants(contract)):
                for method in methods.keys() & vars(cls).keys():
                    original = vars(cls)[method]
                    if not getattr(original, "__isabstractmethod__", False):
                        setattr(cls, method, _annotate_method(original, PART + methods[method]))
                        stack.callback(setattr, cls, method, original)
        yield


def _annotate_module(stack: contextlib.ExitStack, module: nn.Module, name: str) -> None:
    open_ranges: list[record_function] = []

    def enter(_module: nn.Module, _inputs: tuple) -> None:
        open_ranges.append(record_function(name))
        open_ranges[-1].__enter__()

    def leave(_module: nn.Module, _inputs: tuple, _output: object) -> None:
        open_ranges.pop().__exit__(None, None, None)

    stack.callback(module.register_forward_pre_hook(enter).remove)
    stack.callback(module.register_forward_hook(leave, always_call=True).remove)


def _annotate_method(method: Callable, name: str) -> Callable:
    @functools.wraps(method)
    def call(*args, **kwargs):
        with record_function(name):
            return method(*args, **kwargs)

    return call


def _descendants(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        yield child
        yield from _descendants(child)
