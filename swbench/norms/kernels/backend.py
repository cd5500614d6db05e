"""The contract of a backend: a whole whitening layer, forward and backward."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from swbench.norms.context import Call, ParameterTensors, RunningTensors


class UnsupportedTensors(Exception):
    """A `FusedCall` is not for these tensors; nothing was done."""


class FusedCall(ABC):
    """A layer on one backend for inputs of one shape, layout, dtype and device."""

    __slots__ = ()

    @abstractmethod
    def apply(
        self, x: Tensor, parameters: ParameterTensors, running: RunningTensors | None
    ) -> Tensor:
        """y, differentiable where gradients are recorded. In training `running` move. Takes any x,
        and raises `UnsupportedTensors` for all but those that it is for, and for tensors of the
        layer that it cannot work on. Other errors are those of `Backend.apply`.
        """


class Backend(ABC):
    """One way to compute a whitening layer, for the tensors that it `takes`.

    A caller promises that x is a dense (N, C, H, W) tensor, contiguous or channels_last, with
    N·H·W > 0 and memory that holds its values. y and dx have its dtype and layout.

    Eager layers call `apply`. Compiled graphs keep what lies between the two directions
    themselves, as one tensor: they call `forward` and `backward`, which record no autograd state
    and do not wait for the host, and whose results are new tensors, none a part of another.
    """

    name: ClassVar[str]
    """Its key in `TABLE` of `swbench/norms/kernels/__init__.py`: compiled graphs look it up."""

    @abstractmethod
    def takes(self, x: Tensor) -> bool:
        """Whether this backend can work on tensors of the type, dtype and device of `x` here."""

    @abstractmethod
    def apply(self, call: Call, x: Tensor, parameters: ParameterTensors) -> Tensor:
        """y, differentiable where gradients are recorded. In training `call.running` moves.

        Raises RuntimeError where not all tensors are on one device, ValueError for a parameter or
        running statistics of a wrong size.
        """

    @abstractmethod
    def fused(self, call: Call, x: Tensor) -> FusedCall | None:
        """What calls like this one, with inputs like `x`, can be made by in place of `apply`; None
        where there is nothing quicker.
        """

    @abstractmethod
    def workspace_size(
        self, call: Call, images: int, channels: int, dtype: torch.dtype, device: str
    ) -> int:
        """Elements of a workspace at least, from two images on linear in their number. `dtype` is
        that of the statistics; `call.running` is not looked at.
        """

    @abstractmethod
    def forward(
        self, call: Call, x: Tensor, parameters: ParameterTensors, workspace: Tensor
    ) -> Tensor:
        """y; fills `workspace`, a vector in `statistics_dtype(x)`, with all that `backward` needs
        beside x and the parameters. In training `call.running` moves; `call.ranks` is None.
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
        layout. `call.running` is not looked at; `workspace` is left as it is.
        """
