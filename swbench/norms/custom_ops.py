"""The whitening layer as custom operators of torch, for compiled graphs.

A compiler traces `torch.ops.swbench.whiten` or `whiten_training` and decomposes it into
`whiten_forward` (or `whiten_forward_training`) and `whiten_backward`, which are opaque to it. Saved
between the two are x, the parameters, and one vector of small matrices. Operators take no Python
objects: recipe, solver and backend are passed by name. `…_training` updates the running
statistics, as its schema declares.
"""

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from swbench import solvers
from swbench.norms import kernels as kernel_sets
from swbench.norms import saved_masks
from swbench.norms.context import Call, Description, ParameterTensors, Running
from swbench.norms.kernels.backend import Backend
from swbench.norms.onnx_solver import exporting
from swbench.norms.recipe import Recipe
from swbench.norms.tensors import dense, statistics_dtype
from swbench.norms.traced import record
from swbench.solvers.choice import by_batch, pick

_LAYER = "Tensor x, Tensor? gamma, Tensor? beta, Tensor? mean_logits, Tensor? cov_logits"
_CONSTANT = "Tensor? running_mean, Tensor? running_cov"
_MOVING = "Tensor(a!) running_mean, Tensor(b!) running_cov"
_CHOICE = (
    "str statistics, int group, float eps, float momentum, bool training, str solver, "
    "str kernels, SymInt size"
)

_LIBRARY = torch.library.Library("swbench", "FRAGMENT")
_LIBRARY.define(f"whiten({_LAYER}, {_CONSTANT}, {_CHOICE}) -> Tensor")
_LIBRARY.define(f"whiten_training({_LAYER}, {_MOVING}, {_CHOICE}) -> Tensor")
# Any layout is taken, so the compiler may choose the one that suits the convolutions around.
_ANY = (torch.Tag.flexible_layout,)
_LIBRARY.define(
    f"whiten_forward({_LAYER}, {_CONSTANT}, {_CHOICE}) -> (Tensor y, Tensor workspace)", tags=_ANY
)
_LIBRARY.define(
    (f"whiten_forward_training({_LAYER}, {_MOVING}, {_CHOICE}) -> (Tensor y, Tensor workspace)"),
    tags=_ANY,
)
_LIBRARY.define("not_positive(Tensor y) -> Tensor")
_LIBRARY.define("zero_where(Tensor mask, Tensor dy) -> Tensor")
_BACKWARD_CHOICE = (
    "str statistics, int group, float eps, bool training, str solver, str kernels, bool wants_dx"
)
_GRADS = "Tensor dx, Tensor gamma, Tensor beta, Tensor mean_logits, Tensor cov_logits"
_LIBRARY.define(
    f"whiten_backward(Tensor dy, {_LAYER}, Tensor workspace, {_BACKWARD_CHOICE}) -> ({_GRADS})",
    tags=_ANY,
)


def whiten(
    layer: Description, x: Tensor, parameters: ParameterTensors, running: Running | None
) -> tuple[Tensor, tuple[str, str]]:
    """Compute y of `layer` at a dense `x` (N, C, H, W) in one process, traceably by a compiler.
    Also returns the names of solver and backend. An ONNX export records torch operations instead.
    """
    if _exporting():
        return record(layer, x, parameters, running)
    op_args = arguments(layer, x, parameters, running)
    solver, kernels = op_args[-3:-1]
    operator = (
        torch.ops.swbench.whiten_training
        if layer.training and layer.recipe.uses_batch
        else torch.ops.swbench.whiten
    )
    name = solver if isinstance(layer.solver, str) else layer.solver.name
    return operator(*op_args), (name, kernels)


def arguments(
    layer: Description, x: Tensor, parameters: ParameterTensors, running: Running | None
) -> tuple:
    """The arguments of the operators for `layer` at `x`. Solver, backend and the size of the
    workspace are determined here, once a compilation.
    """
    _register_passes()
    channels, group = _sizes(layer.sizes)
    recipe, spec, device = layer.recipe, layer.solver_spec, x.device.type
    dtype = str(statistics_dtype(x)).removeprefix("torch.")
    if spec == "auto":
        images = x.shape[0] if recipe.uses_image else 1
        spec = pick(_by_batch(device, group, dtype), images * (channels // group))
    kernels = _kernels_for(device, str(x.dtype).removeprefix("torch."), layer.kernels)
    statistics, training = ",".join(recipe.statistics), layer.training and recipe.uses_batch
    first, second, step = _workspace_sizes(
        statistics, group, recipe.eps_text, training, spec, kernels, channels, dtype, device
    )
    size = first if x.shape[0] == 1 else second + step * (x.shape[0] - 2)
    running_tensors = (None, None) if running is None else (running.mean, running.cov)
    momentum = 1.0 if running is None else running.momentum
    tensors = (x, *parameters, *running_tensors)
    return *tensors, statistics, group, recipe.eps, momentum, training, spec, kernels, size


@torch.compiler.disable
def over_ranks(eagerly: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Call a layer `eagerly` that communicates: between two graphs, because processes cannot be
    compiled together.
    """
    return eagerly(x)


@torch.compiler.assume_constant_result
def _register_passes() -> bool:
    """Register the passes over inductor's graphs: early enough for the keys of torch's caches to
    include them, and no earlier, because inductor takes seconds to load.
    """
    if not torch.compiler.is_exporting():
        saved_masks.register()
    return True


@torch.compiler.assume_constant_result
def _exporting() -> bool:
    return exporting()


@torch.compiler.assume_constant_result
def _sizes(written: str) -> tuple[int, int]:
    """Channels and group of a layer, passed as text: with a symbolic batch, compilers take integers
    for symbols too (torch 2.6 even attributes of a module).
    """
    channels, group = written.split(",")
    return int(channels), int(group)


@torch.compiler.assume_constant_result
def _by_batch(device: str, group: int, dtype: str) -> tuple[tuple[int, str], ...]:
    return by_batch(device, group, dtype)


@torch.compiler.assume_constant_result
def _kernels_for(device: str, dtype: str, wanted: str) -> str:
    # leaves the mode of `torch.export`, whose fake tensors have no address for kernels in C
    with _disable_current_modes():
        return kernel_sets.kernels_for(
            torch.empty(0, dtype=getattr(torch, dtype), device=device), wanted
        ).name


@torch.compiler.assume_constant_result
def _workspace_sizes(
    statistics: str,
    group: int,
    eps: str,
    training: bool,
    solver: str,
    kernels: str,
    channels: int,
    dtype: str,
    device: str,
) -> tuple[int, int, int]:
    """Elements of the workspace for one image, for two, and for each further image."""
    backend, call = _backend_and_call(statistics, group, float(eps), training, solver, kernels)
    size_1, size_2, size_3 = (
        backend.workspace_size(call, images, channels, getattr(torch, dtype), device)
        for images in (1, 2, 3)
    )
    return size_1, size_2, size_3 - size_2


@lru_cache(maxsize=256)
def _backend_and_call(
    statistics: str, group: int, eps: float, training: bool, solver: str, kernels: str
) -> tuple[Backend, Call]:
    recipe = Recipe(tuple(statistics.split(",")), group, eps)
    return kernel_sets.named(kernels), Call(recipe, solvers.get(solver), None, training)


def _forward(
    x,
    gamma,
    beta,
    mean_logits,
    cov_logits,
    running_mean,
    running_cov,
    statistics,
    group,
    eps,
    momentum,
    training,
    solver,
    kernels,
    size,
):
    x = dense(x)
    backend, call = _backend_and_call(statistics, group, eps, training, solver, kernels)
    if running_mean is not None:
        call = call._replace(running=Running(running_mean, running_cov, momentum))
    workspace = x.new_empty(size, dtype=statistics_dtype(x))
    y = backend.forward(call, x, (gamma, beta, mean_logits, cov_logits), workspace)
    return y, workspace


def _backward(
    dy,
    x,
    gamma,
    beta,
    mean_logits,
    cov_logits,
    workspace,
    statistics,
    group,
    eps,
    training,
    solver,
    kernels,
    wants_dx,
):
    backend, call = _backend_and_call(statistics, group, eps, training, solver, kernels)
    parameters = gamma, beta, mean_logits, cov_logits
    grads = backend.backward(call, dy, dense(x), parameters, workspace, wants_dx)
    return tuple(workspace.new_empty(0) if grad is None else grad for grad in grads)


def _fake_forward(x, *rest):
    x = dense(x)
    return torch.empty_like(x), x.new_empty(rest[-1], dtype=statistics_dtype(x))


def _fake_backward(dy, x, gamma, beta, mean_logits, cov_logits, workspace, *rest):
    dx = torch.empty_like(dense(x)) if rest[-1] else workspace.new_empty(0)
    return dx, *(
        workspace.new_empty(0 if p is None else p.shape)
        for p in (gamma, beta, mean_logits, cov_logits)
    )


def _zero_where(mask: Tensor, dy: Tensor) -> Tensor:
    # On bits, with all of them set where dy stays: `torch.where` takes ten times as long.
    bits = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dy.element_size()]
    selected = (mask.view(torch.int8) - 1).to(bits)
    return selected.bitwise_and_(dy.view(bits)).view(dy.dtype)


class _Whiten(torch.autograd.Function):
    """Forward and backward as one differentiable call. A compiler runs it once, to trace its
    operators.
    """

    @staticmethod
    def forward(ctx, *op_args):
        (
            x,
            gamma,
            beta,
            mean_logits,
            cov_logits,
            _,
            _,
            statistics,
            group,
            eps,
            _,
            training,
            solver,
            kernels,
            _,
        ) = op_args
        operator = (
            torch.ops.swbench.whiten_forward_training
            if training
            else torch.ops.swbench.whiten_forward
        )
        y, workspace = operator(*op_args)
        ctx.save_for_backward(x, gamma, beta, mean_logits, cov_logits, workspace)
        ctx.choice = statistics, group, eps, training, solver, kernels
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        saved = ctx.saved_tensors
        dx, *grads = torch.ops.swbench.whiten_backward(
            dy, *saved, *ctx.choice, ctx.needs_input_grad[0]
        )
        parameters = (
            grad if p is not None else None for p, grad in zip(saved[1:5], grads, strict=True)
        )
        return dx if ctx.needs_input_grad[0] else None, *parameters, *(None,) * 10


for _name in ("whiten", "whiten_training"):
    _LIBRARY.impl(_name, _Whiten.apply, "CompositeImplicitAutograd")
for _name in ("whiten_forward", "whiten_forward_training"):
    _LIBRARY.impl(_name, _forward, "CompositeExplicitAutograd")
    torch.library.register_fake(f"swbench::{_name}", _fake_forward, lib=_LIBRARY)
_LIBRARY.impl("whiten_backward", _backward, "CompositeExplicitAutograd")
torch.library.register_fake("swbench::whiten_backward", _fake_backward, lib=_LIBRARY)
_LIBRARY.impl("not_positive", lambda y: y <= 0, "CompositeExplicitAutograd")
torch.library.register_fake(
    "swbench::not_positive", lambda y: torch.empty_like(y, dtype=torch.bool), lib=_LIBRARY
)
_LIBRARY.impl("zero_where", _zero_where, "CompositeExplicitAutograd")
torch.library.register_fake(
    "swbench::zero_where",
    lambda mask, dy: torch.empty_like(mask, dtype=dy.dtype),
    lib=_LIBRARY,
)
