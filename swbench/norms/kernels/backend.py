"""The contract of a backend, which computes a complete whitening layer, forward and backward."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from swbench.norms.context import Call, ParameterTensors, RunningTensors


class UnsupportedTensors(Exception):
    """Raised by a `FusedCall` for tensors that it does not support, before it does anything."""


class FusedCall(ABC):
    """A layer on one backend for inputs of one shape, layout, dtype and device."""

    __slots__ = ()

    @abstractmethod
    def apply(
        self, x: Tensor, parameters: ParameterTensors, running: RunningTensors | None
    ) -> Tensor:
        """Compute y, differentiable where gradients are recorded. In training `running` is updated.
        Raises `UnsupportedTensors` for an x of another kind, and for tensors of the layer that it
        does not support. Other errors are those of `Backend.apply`.
        """


class Backend(ABC):
    """One way to compute a whitening layer, for the tensors that it `takes`.

    Callers guarantee that x is a dense (N, C, H, W) tensor, contiguous or channels_last, with
    N·H·W > 0 and memory that holds its values. y and dx have its dtype and layout.

    Eager layers call `apply`. Compiled graphs save the tensors between forward and backward
    themselves, as one workspace: they call `forward` and `backward`, which record no autograd
    state, do not synchronise with the host, and return new tensors that do not overlap.
    """

    name: ClassVar[str]
    """Its key in `TABLE` of `swbench/norms/kernels/__init__.py`: compiled graphs look it up."""

    @abstractmethod
    def takes(self, x: Tensor) -> bool:
        """Whether this backend can work on tensors of the type, dtype and device of `x` here."""

    @abstractmethod
    def apply(self, call: Call, x: Tensor, parameters: ParameterTensors) -> Tensor:
        """Compute y, differentiable where gradients are recorded. In training `call.running` is
        updated.

        Raises RuntimeError where not all tensors are on one device, ValueError for a parameter or
        running statistics of a wrong size.
        """

    @abstractmethod
    def fused(self, call: Call, x: Tensor) -> FusedCall | None:
        """A faster replacement of `apply` for calls like this one with inputs like `x`; None where
        there is none.
        """

    @abstractmethod
    def workspace_size(
        self, call: Call, images: int, channels: int, dtype: torch.dtype, device: str
    ) -> int:
        """The least number of elements of a workspace; linear in `images` from two on. `dtype` is
        that of the statistics; `call.running` is ignored.
        """

    @abstractmethod
    def forward(
        self, call: Call, x: Tensor, parameters: ParameterTensors, workspace: Tensor
    ) -> Tensor:
        """Compute y, and fill `workspace`, a vector in `statistics_dtype(x)`, with what `backward`
        needs besides x and the parameters. In training `call.running` is updated; `call.ranks` is
        None.
        """

    @abstractmethod
    def backward(
        self,
        call: Call,
        dy: Tensor,
        x: Tensor,
        parameters: ParameterTensors,
        workspace: Tensor,
        wants_dx: bool,
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x (None unless `wants_dx`) and of the four `parameters`. dy may have any
        layout. `call.running` is ignored; `workspace` is not changed.
        """
