"""One iteration of a network: a training step's two passes, or one forward pass in eval mode."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from swbench.case import TRAIN, Case
from swbench.clock import Stopwatch
from swbench.models.outputs import floating
from swbench.probes.precision import AMP, autocast

FORWARD, FORWARD_BACKWARD = "forward", "forward_backward"


class Step:
    """One call of a case: `model` on `inputs`, through `run` (the model itself, or compiled).

    Phase `train` runs the forward pass, and the backward pass from `cotangents`, one for every
    floating-point tensor of the output. The loss is the inner product with them. Under autocast
    they stand for cotangents that a loss scaler, which is outside of the timed region, has scaled
    up. Autocast covers the forward pass, as torch's documentation recommends. Other phases run the
    forward pass under `torch.inference_mode`.
    """

    def __init__(
        self, case: Case, device: str, model: nn.Module, inputs: tuple[Tensor, ...]
    ) -> None:
        self._case, self._device, self._model, self.inputs = case, device, model, inputs
        self.run: Callable[..., Any] = model
        self.cotangents: tuple[Tensor, ...] = ()
        self.trains = case.phase == TRAIN
        self._without_autocast = self.trains and not case.dtype.startswith(AMP)

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that `timed` marks, in order."""
        return (FORWARD, FORWARD_BACKWARD) if self.trains else (FORWARD,)

    def forward(self, run: Callable[..., Any] | None = None) -> Any:
        """The output of `run`, which defaults to the step's own."""
        run = run or self.run
        if self._without_autocast:
            return run(*self.inputs)
        with (
            torch.inference_mode(not self.trains),
            autocast(self._case.dtype, self._device),
        ):
            return run(*self.inputs)

    def backward(self, output: Any) -> None:
        """The backward pass of every tensor in `output` that requires grad, from its cotangent."""
        if isinstance(output, Tensor):
            output.backward(self.cotangents[0])
            return
        pairs = [
            (tensor, cotangent)
            for tensor, cotangent in zip(floating(output), self.cotangents, strict=True)
            if tensor.requires_grad
        ]
        torch.autograd.backward(*zip(*pairs, strict=True))

    def run_passes(self) -> None:
        """The passes without a clock; gradients add up to those that exist already."""
        output = self.forward()
        if self.trains:
            self.backward(output)

    def __call__(self) -> None:
        """One iteration without a clock."""
        self._model.zero_grad(set_to_none=True)
        self.run_passes()

    def timed(self, watch: Stopwatch) -> None:
        """One iteration, with a mark after each pass."""
        self._model.zero_grad(set_to_none=True)
        watch.start()
        output = self.forward()
        watch.mark(FORWARD)
        if self.trains:
            self.backward(output)
            watch.mark(FORWARD_BACKWARD)
