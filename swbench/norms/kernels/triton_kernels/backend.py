"""The backend `triton`: every tensor read once and the result written once, on a CUDA device."""

import importlib.metadata
from functools import cache
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from swbench.norms.context import Call, ParameterTensors
from swbench.norms.kernels.torch_ops import TorchBackend
from swbench.norms.kernels.triton_kernels.plan import reachable
from swbench.solvers.polar_triton import PolarTriton
from swbench.solvers.triton_kernels import TILE_LIMIT, missing

if TYPE_CHECKING:
    from types import ModuleType

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
OLDEST = 8
"""The least compute capability, whose tensor cores multiply in TF32."""

OLDEST_TRITON = (3, 3)
"""The least version of Triton. Triton 3.2 ends the process while it compiles a product of a stack
of matrices (an assertion in its lowering of shared memory).
"""

FUSABLE = {("bw",), ("iw",), ("bw", "iw"), ("bw", "iw", "ln"), ("bw", "iw", "bn", "in", "ln")}
"""Statistics whose small algebra has kernels; for others it is in torch, between the passes."""


@cache
def _supports_device(device: torch.device) -> bool:
    """Whether these kernels run on `device`: an NVIDIA GPU that is new enough, with Triton
    installed, or a CPU with Triton's interpreter.
    """
    if missing(device.type) is not None or _triton() < OLDEST_TRITON:
        return False
    return device.type == "cpu" or (
        torch.version.cuda is not None and torch.cuda.get_device_capability(device)[0] >= OLDEST
    )


def _triton() -> tuple[int, ...]:
    """The version of Triton, read without importing it."""
    return tuple(map(int, importlib.metadata.version("triton").split(".")[:2]))


def supports(x: Tensor, group: int) -> bool:
    """Whether the kernels can work on groups of `group` channels of `x` (N, C, H, W)."""
    return group <= TILE_LIMIT and reachable(x.shape[2] * x.shape[3], group)


def _is_fusable(call: Call) -> bool:
    return (
        call.recipe.group <= TILE_LIMIT
        and call.recipe.statistics in FUSABLE
        and type(call.solver) is PolarTriton
    )


def _passes() -> "ModuleType":
    from swbench.norms.kernels.triton_kernels import passes

    return passes


def _fused() -> "ModuleType":
    from swbench.norms.kernels.triton_kernels import autograd_function

    return autograd_function


class TritonBackend(TorchBackend):
    """float32, bfloat16 and float16 on CUDA, both layouts, G ≤ 64; a larger G, or an image too
    large, runs on the torch operations it inherits.

    Sums are added in an order that depends on the shape and the device alone, without atomics, so
    they are the same in every run.
    """

    name: ClassVar[str] = "triton"

    def takes(self, x: Tensor) -> bool:
        plain = type(x) is Tensor or type(x) is torch.nn.Parameter
        # Not `is_compiling`, which is true of real tensors too while a compiler works.
        return (
            plain
            and x.dtype in DTYPES
            and (x.is_cuda or x.is_cpu)
            and not torch.compiler.is_dynamo_compiling()
            and _supports_device(x.device)
        )

    def moments(self, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        if not supports(x, group):
            return super().moments(x, shift, group)
        second, first = _passes().sums(None, x, shift, group)
        pixels = x.shape[2] * x.shape[3]
        mean = first.div_(pixels)
        cov = torch.baddbmm(
            second.flatten(0, 1),
            mean.view(-1, group, 1),
            mean.view(-1, 1, group),
            beta=1 / pixels,
            alpha=-1,
        )
        return mean + shift.view(mean.shape), cov.view(second.shape)

    def products(self, dy: Tensor, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        if not supports(x, group):
            return super().products(dy, x, shift, group)
        return _passes().sums(dy, x, shift, group)

    def affine(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        if not supports(x, a.shape[-1]):
            return super().affine(x, a, b)
        return _passes().mapped(x, None, a, None, b)

    def combine(self, dy: Tensor, x: Tensor, at: Tensor, b: Tensor, c: Tensor) -> Tensor:
        if not supports(x, at.shape[-1]):
            return super().combine(dy, x, at, b, c)
        return _passes().mapped(dy, x, at, b, c)

    def apply(self, call: Call, x: Tensor, parameters: ParameterTensors) -> Tensor:
        running = call.running
        if (
            not _is_fusable(call)
            or not supports(x, call.recipe.group)
            or not (
                running is None or (running.mean.is_contiguous() and running.cov.is_contiguous())
            )
        ):
            return super().apply(call, x, parameters)
        return _fused().apply(call, x, parameters)

    def workspace_size(
        self, call: Call, images: int, channels: int, dtype: torch.dtype, device: str
    ) -> int:
        if not _is_fusable(call):
            return super().workspace_size(call, images, channels, dtype, device)
        return _fused().workspace_size(call, images, channels, device)

    def forward(
        self, call: Call, x: Tensor, parameters: ParameterTensors, workspace: Tensor
    ) -> Tensor:
        if not _is_fusable(call):
            return super().forward(call, x, parameters, workspace)
        return _fused().forward(call, x, parameters, workspace)

    def backward(self, call, dy, x, parameters, workspace, wants_dx):
        if not _is_fusable(call):
            return super().backward(call, dy, x, parameters, workspace, wants_dx)
        return _fused().backward(call, dy, x, parameters, workspace, wants_dx)
