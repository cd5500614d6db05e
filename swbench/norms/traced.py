"""A whitening layer in torch operations that make new tensors, for traces and exports to ONNX;
kernels that write through addresses leave no trace.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from swbench.norms.composed import composed
from swbench.norms.context import Call, Description, ParameterTensors, Running
from swbench.norms.kernels import algebra
from swbench.norms.onnx_solver import exported, exporting
from swbench.norms.tensors import checked, statistics_dtype
from swbench.solvers.base import Solver
from swbench.solvers.choice import solver_for
from swbench.solvers.tracing import tracing


def record(
    layer: Description, x: Tensor, parameters: ParameterTensors, running: Running | None
) -> tuple[Tensor, tuple[str, str]]:
    """Y of `layer` at `x` (N, C, H, W), for any number of images and pixels, and differentiable by
    autograd through every operation; and the names of the solver and the backend.

    Statistics, solver and running statistics are those of the layer; a solver in C or Triton is
    replaced by the same method in torch. What a trace cannot hold: the exclusion of autocast and
    TF32, which are settings and no operations, and the layer's own gradient. Autograd's gradient of
    a decomposition is not finite, or mostly rounding, where eigenvalues meet; to train a trace
    choose `polar` or `newton`. ONNX has no decompositions: an export holds `polar` in place of any
    exact solver, and no other. Raises ValueError for any other shape and for a solver that is not
    exact in an export.
    """
    recipe, groups = layer.recipe, layer.channels // layer.recipe.group
    dtype = statistics_dtype(x)
    # a shape is numbers here; and constants that are kept are made once, not in every run of the
    # trace
    with _tracing_paused():
        channels_last = not checked(x, layer.channels).is_contiguous()
        matrices = groups * (x.shape[0] if recipe.uses_image else 1)
        chosen, name = (
            exported(layer.solver)
            if exporting()
            else solver_for(layer.solver, recipe.group, matrices, dtype, x.device)
        )
        algebra.make_constants(recipe, dtype, x.device)
        solver = chosen.in_torch()
        solver.forward(torch.eye(recipe.group, dtype=dtype, device=x.device).unsqueeze(0))
    call = Call(recipe, solver, running, layer.training)
    y = composed(call, lambda cov: _solved(solver, cov), x, parameters)
    y = y.contiguous(memory_format=torch.channels_last) if channels_last else y
    return y, (name if solver is chosen else solver.name, "torch")


@contextmanager
def _tracing_paused() -> Iterator[None]:
    state = tracing()
    torch._C._set_tracing_state(None)
    try:
        yield
    finally:
        torch._C._set_tracing_state(state)


def _solved(solver: Solver, cov: Tensor) -> Tensor:
    """W for `cov` (B, G, G). A solver may take G for a number, of which a trace warns that it
    becomes a constant: it is one of the layer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return solver.forward(cov)[0]
