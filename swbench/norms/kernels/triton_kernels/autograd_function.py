"""A whitening layer in Triton: as one autograd Function, and forward and backward without it."""

import torch
from torch import Tensor

from swbench.native import library
from swbench.norms import composed
from swbench.norms.context import Call, ParameterTensors, Running
from swbench.norms.kernels.triton_kernels.fused_plan import FusedPlan, fused_plan
from swbench.norms.kernels.triton_kernels.layer_config import Key
from swbench.norms.kernels.triton_kernels.workspace import ALIGNED
from swbench.norms.tensors import check_running, concrete, on_one_device, sized


def plan_key(call: Call, x: Tensor, parameters: ParameterTensors) -> Key:
    """The key of the plan for `x` and the parameters. Raises RuntimeError where they are not all on
    one device, ValueError for a wrong size.
    """
    running = call.running
    sized(parameters, x.shape[1], len(call.recipe.statistics))
    if running is not None:
        check_running(*running[:2], x.shape[1], call.recipe.group)
    tensors = (x, *parameters, *((None, None) if running is None else (running.mean, running.cov)))
    on_one_device(x, tensors)
    dtypes = tuple(None if t is None else t.dtype for t in tensors)
    momentum = 0.0 if running is None else running.momentum
    return Key(
        call.recipe,
        call.solver,
        tuple(x.shape),
        not x.is_contiguous(),
        call.training,
        momentum,
        x.device,
        dtypes,
    )


def contiguous_parameters(parameters: ParameterTensors) -> ParameterTensors:
    """Parameters as kernels read them: contiguous, with memory that holds their values."""
    return tuple(p if p is None else concrete(p).contiguous() for p in parameters)


def run_forward(
    plan: FusedPlan, running: Running | None, x: Tensor, parameters: ParameterTensors, saved: Tensor
) -> Tensor:
    """Compute y, and fill `saved` with the small matrices that backward needs. In training the
    running statistics are updated, if there are any.
    """
    y = torch.empty_like(x)
    gamma, beta, mean_logits, cov_logits = parameters
    mean, cov = (None, None) if running is None else (running.mean, running.cov)
    tensors = {
        "x": x,
        "y": y,
        "gamma": gamma,
        "beta": beta,
        "mean_logits": mean_logits,
        "cov_logits": cov_logits,
    }
    tensors |= {"running_mean": mean, "running_cov": cov}
    plan.run(
        plan.forward,
        tensors,
        (plan.config.saved, saved),
        (plan.config.forward_workspace, plan.config.forward_workspace.allocate(x)),
    )
    return y


def run_backward(
    plan: FusedPlan, x: Tensor, dy: Tensor, gamma: Tensor | None, saved: Tensor, wanted: bool = True
) -> tuple[Tensor | None, ...]:
    """Compute the gradients: dx (None unless `wanted`), and those of γ, β and both sets of logits,
    None where there is no such parameter.
    """
    layout = torch.channels_last if plan.key.last else torch.contiguous_format
    # hooks may unpack x in another layout (offloading does), and dy may be a negated view
    x, dy = (concrete(t).contiguous(memory_format=layout) for t in (x, dy))
    count, channels = len(plan.key.recipe.statistics), x.shape[1]
    sizes = zip((channels, channels, count, count), plan.key.dtypes[1:5], strict=True)
    grads = [
        None if dtype is None else torch.empty(size, dtype=dtype, device=x.device)
        for size, dtype in sizes
    ]
    dx = torch.empty_like(x) if wanted else None
    tensors = {"x": x, "dy": dy, "dx": dx, "gamma": gamma}
    tensors.update(
        zip(("grad_gamma", "grad_beta", "grad_mean_logits", "grad_cov_logits"), grads, strict=True)
    )
    plan.run(
        plan.backward[wanted],
        tensors,
        (plan.config.saved, saved),
        (plan.config.backward_workspace, plan.config.backward_workspace.allocate(x)),
    )
    return dx, *grads


def plan_for(call: Call, x: Tensor, parameters: ParameterTensors) -> FusedPlan:
    """The plan for `x` and the parameters, cached. Dtypes, devices and sizes are compared in each
    call, because a layer can be cast or moved in place. They are checked where they are new.
    """
    running = (None, None) if call.running is None else call.running[:2]
    kinds = tuple(
        [
            t if t is None else (t.dtype, t.get_device(), t.numel())
            for t in (x, *parameters, *running)
        ]
    )
    momentum = 0.0 if call.running is None else call.running.momentum
    kind = (call.recipe, call.solver, call.training, momentum, x.shape, not x.is_contiguous())
    plan = _PLANS.get((kind, kinds))
    if plan is None:
        if len(_PLANS) >= KINDS:
            _PLANS.clear()
        plan = _PLANS[kind, kinds] = fused_plan(plan_key(call, x, parameters))
    return plan


KINDS = 1024
"""Plans that are cached; with more the cache is cleared."""
_PLANS: dict[tuple, FusedPlan] = {}


def apply(call: Call, x: Tensor, parameters: ParameterTensors) -> Tensor:
    """Compute y, differentiable where gradients are recorded."""
    plan = plan_for(call, x, parameters)
    if torch.is_grad_enabled():
        return FusedWhitening.apply(x, *parameters, plan, call)
    return run_forward(
        plan, call.running, x, contiguous_parameters(parameters), plan.config.saved.allocate(x)
    )


class FusedWhitening(torch.autograd.Function):
    """`Whitening` in as many launches as a `FusedPlan` has. Saves x, γ and one tensor of small
    matrices. Differentiable any number of times.
    """

    @staticmethod
    def forward(
        ctx, x: Tensor, gamma, beta, mean_logits, cov_logits, plan: FusedPlan, call: Call
    ) -> Tensor:
        parameters = (gamma, beta, mean_logits, cov_logits)
        plain = contiguous_parameters(parameters)
        saved = plan.config.saved.allocate(x)
        y = run_forward(plan, call.running, x, plain, saved)
        ctx.plan_call_parameters = plan, call, parameters
        ctx.save_for_backward(x, plain[0], saved)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        (x, gamma, saved), (plan, call, parameters) = ctx.saved_tensors, ctx.plan_call_parameters
        shape, dtypes = plan.key.shape, plan.key.dtypes
        if (
            x.dtype is not dtypes[0]
            or tuple(x.shape) != shape
            or not (
                gamma is None
                or (
                    gamma.dtype is dtypes[1] and gamma.numel() == shape[1] and gamma.is_contiguous()
                )
            )
        ):
            raise RuntimeError(
                "the input or the weight of a whitening layer was given another dtype, "
                "size or layout between the forward and the backward pass"
            )
        if torch.is_grad_enabled() or not library.has_memory(dy):
            mean_logits, cov_logits, running = plan.config.constants(saved)
            grads = composed.gradients(
                call._replace(running=running),
                (x, *parameters),
                (gamma, None, mean_logits, cov_logits),
                ctx.needs_input_grad[:5],
                dy,
            )
        else:
            grads = run_backward(plan, x, dy, gamma, saved, ctx.needs_input_grad[0])
        return *grads, None, None


def workspace_size(call: Call, images: int, channels: int, device: str) -> int:
    """Elements of a workspace: linear in the images, and enough for every tensor to begin at its
    own cache line, whatever the layer mixes.
    """
    matrices, vectors, group = images + 1, 3 * images + 2, call.recipe.group
    return (
        channels * group * (2 * images + matrices)
        + channels * vectors
        + 2 * images
        + 16
        + 10 * ALIGNED
    )


def forward(call: Call, x: Tensor, parameters: ParameterTensors, workspace: Tensor) -> Tensor:
    """Compute y without autograd, for any running statistics."""
    running = call.running
    if running is not None and not (running.mean.is_contiguous() and running.cov.is_contiguous()):
        moved = Running(running.mean.contiguous(), running.cov.contiguous(), running.momentum)
        y = forward(call._replace(running=moved), x, parameters, workspace)
        running.mean.copy_(moved.mean)
        running.cov.copy_(moved.cov)
        return y
    return run_forward(
        plan_for(call, x, parameters), running, x, contiguous_parameters(parameters), workspace
    )


def backward(
    call: Call,
    dy: Tensor,
    x: Tensor,
    parameters: ParameterTensors,
    workspace: Tensor,
    wants_dx: bool,
) -> tuple[Tensor | None, ...]:
    """Compute the gradients without autograd, those of parameters in the dtype of the workspace."""
    parameters = contiguous_parameters(parameters)
    dx, *grads = run_backward(
        plan_for(call, x, parameters), x, dy, parameters[0], workspace, wants_dx
    )
    return dx, *(grad if grad is None else grad.to(workspace.dtype) for grad in grads)
