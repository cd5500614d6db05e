"""A whitening layer in out-of-place torch operations, for traces and exports to ONNX, which cannot
record kernels in C or Triton.
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
    """Compute y of `layer` at `x` (N, C, H, W) by operations that a trace records, valid for any N,
    H and W. Also returns the names of solver and backend.

    A solver in C or Triton is replaced by the same method in torch. A trace does not contain the
    exclusion of autocast and TF32, which are settings, nor the closed-form gradient of the layer:
    autograd differentiates each operation. Autograd's gradient of a decomposition is not finite, or
    mostly rounding error, where eigenvalues are equal or close; to train a trace choose `polar` or
    `newton`. In an ONNX export `polar` replaces every exact solver. Raises ValueError for any other
    shape, and in an export for a solver that is not exact.
    """
    recipe, groups = layer.recipe, layer.channels // layer.recipe.group
    dtype = statistics_dtype(x)
    # Here a shape is made of numbers: constants are made and cached once, not in every run.
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
    """W for `cov` (B, G, G). Without the warning that G becomes a constant of the trace: it is a
    constant of the layer.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        return solver.forward(cov)[0]
