"""One iteration of a network: a training step's two passes, or one forward pass in eval mode."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from swbench.case import TRAIN, Case
from swbench.clock import Stopwatch
from swbench.models.outputs import floating
from swbench.probes.precision import AMP, autocast

FORWARD, BOTH = "forward", "forward_backward"


class Step:
    """What a call of a case does with `model` on `inputs`, run as `run` (the model itself, or
    compiled).

    In phase `train` the forward pass, and the backward pass from `cotangents`, one for every
    floating-point tensor of the output. The loss is the inner product with them: under autocast
    they are what a loss scaler, which is outside of the timed region, would have made of smaller
    ones. Autocast is around the forward pass, as torch's documentation has it. In the other phases
    the forward pass under `torch.inference_mode`.
    """

    def __init__(
        self, case: Case, place: str, model: nn.Module, inputs: tuple[Tensor, ...]
    ) -> None:
        self._case, self._place, self._model, self.inputs = case, place, model, inputs
        self.run: Callable[..., Any] = model
        self.cotangents: tuple[Tensor, ...] = ()
        self.trains = case.phase == TRAIN
        self._plain = self.trains and not case.dtype.startswith(AMP)

    @property
    def passes(self) -> tuple[str, ...]:
        """The passes that `timed` marks, in order."""
        return (FORWARD, BOTH) if self.trains else (FORWARD,)

    def forward(self, run: Callable[..., Any] | None = None) -> Any:
        """The output; of `run` in the place of the step's own, if one is given."""
        run = run or self.run
        if self._plain:
            return run(*self.inputs)
        with (
            torch.inference_mode(not self.trains),
            autocast(self._case.dtype, self._place),
        ):
            return run(*self.inputs)

    def backward(self, output: Any) -> None:
        """The backward pass of everything in `output` that has one, from its cotangent."""
        if isinstance(output, Tensor):
            output.backward(self.cotangents[0])
            return
        pairs = [
            (one, cotangent)
            for one, cotangent in zip(floating(output), self.cotangents, strict=True)
            if one.requires_grad
        ]
        torch.autograd.backward(*zip(*pairs, strict=True))

    def last(self) -> None:
        """The passes without a clock, on gradients that are there already."""
        output = self.forward()
        if self.trains:
            self.backward(output)

    def __call__(self) -> None:
        """One iteration without a clock."""
        self._model.zero_grad(set_to_none=True)
        self.last()

    def timed(self, watch: Stopwatch) -> None:
        """One iteration, with a mark after each pass."""
        self._model.zero_grad(set_to_none=True)
        watch.start()
        output = self.forward()
        watch.mark(FORWARD)
        if self.trains:
            self.backward(output)
            watch.mark(BOTH)
