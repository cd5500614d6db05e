"""One layer under stress: on a hostile input, judged against the same layer in float64, or in the
training of a small network.
"""

import copy

import torch
from torch import Tensor, nn

from swbench import norms, solvers
from swbench.case import TEXTBOOK, TRAINING, StabilityCase
from swbench.clock import Stopwatch, stopwatch_for
from swbench.probes.hostile_inputs import CHANNELS_IN_GROUPS, hostile_input
from swbench.probes.precision import autocast, element_type, narrow_type
from swbench.probes.stability_training import Task, exception_line, train
from swbench.probes.textbook import TextbookWhiten2d
from swbench.probes.workload import Unsupported, Workload
from swbench.result import Measurement

SEED = 0
"""Input, cotangent and parameters are the same in every process and for every layer and solver."""

EPS = 1e-5
"""The ε of every layer, BN's too: the default of all of them."""

RAISED = "raised"
"""Key in `chosen` of the exception that a layer raised. Raising is a result here, not a failed
case.
"""


def stability_workload(case: StabilityCase) -> Workload:
    """The workload of a case: an input or the training."""
    return TrainingWorkload(case) if case.trial == TRAINING else InputWorkload(case)


def build_layer(case: StabilityCase, channels: int, solver: str | None = None) -> nn.Module:
    """The layer of a case for inputs of `channels`, in training mode; in float32 under autocast,
    else in the case's dtype. `solver` overrides the case's own.
    """
    spec = solver or case.solver
    if spec == TEXTBOOK:
        template = norms.build(case.norm, channels, group=case.group, eps=EPS)
        layer = TextbookWhiten2d(channels, template.recipe)
    else:
        layer = norms.build(case.norm, channels, group=case.group, solver=spec or "auto", eps=EPS)
    dtype = element_type(case.dtype)
    return layer.to(device=case.device, dtype=dtype).train()


def stopwatch_or_refuse(case: StabilityCase) -> Stopwatch:
    """The stopwatch of the case. Raises Unsupported where its solver or device is not here."""
    if case.solver not in (None, TEXTBOOK):
        reason = solvers.get(case.solver).available(case.device)
        if reason is not None:
            raise Unsupported(reason)
    watch = stopwatch_for(case.device)
    if watch is None:
        raise Unsupported(f"torch sees no device {case.device!r} here; use --device cpu")
    return watch


class InputWorkload:
    """Forward and backward of a layer on one input with a fixed random cotangent.

    The cotangent has the input's dtype. The layer's parameters are random too, so that y is not 0
    for any input. An exception of the layer is recorded in `chosen`, and tensors that it did not
    compute count as not finite.
    """

    def __init__(self, case: StabilityCase, watch: Stopwatch | None = None) -> None:
        self._watch = watch or stopwatch_or_refuse(case)
        self._case, dtype = case, narrow_type(case.dtype)
        x = hostile_input(case.trial, case.batch, case.group, dtype, SEED)
        generator = torch.Generator().manual_seed(SEED + 1)
        self._dy = torch.randn(x.shape, generator=generator).to(case.device, dtype)
        self._x = x.to(case.device).requires_grad_()
        self._layer = build_layer(case, CHANNELS_IN_GROUPS * case.group)
        with torch.no_grad():
            for parameter in self._layer.parameters():
                shape = parameter.shape
                parameter.add_(0.3 * torch.randn(shape, generator=generator).to(parameter))
        self._exact = copy.deepcopy(self._layer).double().cpu()
        self._y: Tensor | None = None
        self.chosen: dict[str, str] = {}

    def call(self) -> dict[str, float]:
        """Seconds of both passes, or until the layer raised."""
        self._x.grad = self._y = None
        self._layer.zero_grad()
        self.chosen.pop(RAISED, None)
        self._watch.start()
        try:
            with autocast(self._case.dtype, self._case.device):
                self._y = self._layer(self._x)
            self._y.backward(self._dy.to(self._y.dtype))
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as problem:
            self.chosen[RAISED] = exception_line(problem)
        self._watch.mark("forward_backward")
        return self._watch.read()

    def finish(self) -> list[Measurement]:
        """`y_error` and `dx_error` of the last call against float64, no sample where something is
        not finite, and the shares `y_nonfinite_share`, `dx_nonfinite_share` and
        `parameters_nonfinite_share` (of the gradients of γ, β and mixing weights) that are not.

        An error is the norm of the difference over all entries, relative to the norm of the exact
        tensor. The scale of dx is at least ‖dy‖/√(σ² + ε), with the largest variance σ² of a
        channel, because a gradient of 0 has no relative error.
        """
        self.chosen |= getattr(self._layer, "chosen", {})
        y, dx = self._reference()
        x = self._x.detach().double().cpu()
        variance = x.var((0, 2, 3), correction=0).max()
        scale = self._dy.double().norm().cpu() / (variance + EPS).sqrt()
        grads = [p.grad for p in self._layer.parameters() if p.requires_grad]
        return [
            *_tensor_errors("y", self._y, y, y.norm()),
            *_tensor_errors("dx", self._x.grad, dx, torch.maximum(dx.norm(), scale)),
            Measurement(
                "parameters_nonfinite_share",
                "1",
                (max((_nonfinite(grad) for grad in grads), default=0.0),),
            ),
        ]

    def _reference(self) -> tuple[Tensor, Tensor]:
        """Y and dx of the layer in float64, for the same input, parameters and cotangent.

        By eigendecomposition, unless the solver does not converge to Σ^(-1/2) by design: then by
        the same solver, so that its rounding is judged and not the method.
        """
        case, layer = self._case, self._exact
        if isinstance(layer, TextbookWhiten2d) or (
            case.solver is not None and solvers.get(case.solver).exact
        ):
            layer = build_layer(case, CHANNELS_IN_GROUPS * case.group, "eigh").double().cpu()
            wanted = layer.state_dict().keys()
            parameters = {k: v for k, v in self._exact.state_dict().items() if k in wanted}
            layer.load_state_dict(parameters, strict=False)
        x = self._x.detach().cpu().double().requires_grad_()
        if isinstance(layer, nn.BatchNorm2d) and x.numel() == x.shape[1]:
            # BN refuses a single value a channel, for which the formula holds as for any other
            y = layer.bias.view(-1, 1, 1).expand_as(x) + 0 * x
        else:
            y = layer(x)
        y.backward(self._dy.cpu().double())
        return y.detach(), x.grad


def _tensor_errors(
    name: str, value: Tensor | None, exact: Tensor, scale: Tensor
) -> list[Measurement]:
    share = _nonfinite(value)
    error = () if share else (((value.detach().cpu().double() - exact).norm() / scale).item(),)
    return [
        Measurement(f"{name}_error", "1", error),
        Measurement(f"{name}_nonfinite_share", "1", (share,)),
    ]


def _nonfinite(tensor: Tensor | None) -> float:
    """The share of entries that are not finite; 1 for a tensor that was not computed."""
    return 1.0 if tensor is None else 1.0 - tensor.isfinite().double().mean().item()


class TrainingWorkload:
    """A training step of the small task; `finish` trains from every seed."""

    def __init__(self, case: StabilityCase) -> None:
        self._watch = stopwatch_or_refuse(case)
        self._case = case
        self._task = self._task_for(0)
        self.chosen: dict[str, str] = {}

    def _task_for(self, seed: int) -> Task:
        case = self._case
        return Task(
            lambda channels: build_layer(case, channels),
            group=case.group,
            batch=case.batch,
            dtype=element_type(case.dtype),
            autocast=lambda: autocast(case.dtype, case.device),
            learning_rate=case.learning_rate,
            device=case.device,
            seed=seed,
        )

    def call(self) -> dict[str, float]:
        """Seconds of one training step."""
        self._watch.start()
        try:
            self._task.step()
        except RuntimeError as problem:
            self.chosen[RAISED] = exception_line(problem)
        self._watch.mark("forward_backward")
        return self._watch.read()

    def finish(self) -> list[Measurement]:
        """For each seed a sample of `final_loss`, NaN where training ended early, and of `broken`,
        1 or 0 (`swbench.probes.stability_training.train`).
        """
        self.chosen.pop(RAISED, None)
        outcomes = [
            train(self._task_for(seed), self._case.steps) for seed in range(self._case.seeds)
        ]
        if reason := next((outcome.reason for outcome in outcomes if outcome.reason), ""):
            self.chosen[RAISED] = reason
        return [
            Measurement("final_loss", "1", tuple(outcome.loss for outcome in outcomes)),
            Measurement("broken", "1", tuple(float(outcome.broken) for outcome in outcomes)),
        ]
