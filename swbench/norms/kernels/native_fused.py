"""A whitening layer as one call into C for forward and one for backward, because at batch 1 the
cost of dozens of small operations is their dispatch.
"""

import ctypes
from collections.abc import Sequence
from functools import cache, lru_cache

import torch
from torch import Tensor

from swbench.native import library
from swbench.norms import composed
from swbench.norms.context import Call, ParameterTensors, Running, RunningTensors
from swbench.norms.kernels.backend import FusedCall, UnsupportedTensors
from swbench.norms.recipe import Recipe
from swbench.norms.tensors import abstract, check_running, concrete, on_one_device, sized

_NO_MEMORY = "no memory for the sums of a native whitening layer"

KINDS = ("bw", "iw", "bn", "in", "ln")
"""`enum statistic` of `swbench/native/src/algebra.h`, by position."""


@cache
def statistics_of(recipe: Recipe):
    """The statistics of a recipe as `enum statistic`. Cached for good, because C holds
    its address.
    """
    return (ctypes.c_int * len(recipe.statistics))(*(KINDS.index(s) for s in recipe.statistics))


class FusedLayer(FusedCall):
    """The description of a layer for C, for one shape, layout and dtype of x. `call.running` is
    None: the running statistics are passed to each `forward`. `momentum` is the weight of their old
    values. No tensor of the layer is stored, because its memory may be replaced between calls.
    """

    __slots__ = (
        "_backward",
        "_described",
        "_dtype",
        "_forward",
        "_like",
        "_native",
        "_shape",
        "_sizes",
        "_workspace",
        "address",
        "call",
        "last",
        "size",
    )

    def __init__(
        self, call: Call, momentum: float, shape: torch.Size, last: bool, dtype: torch.dtype
    ) -> None:
        recipe, native = call.recipe, library.load()
        kinds = statistics_of(recipe)
        n, channels, height, width = shape
        k = library.FusedLayer(
            images=n,
            channels=channels,
            pixels=height * width,
            centre=height // 2 * width + width // 2,
        )
        k.group, k.channels_last, k.element = recipe.group, last, library.elements()[dtype]
        k.statistics, k.kinds = ctypes.addressof(kinds), len(kinds)
        k.uses_batch, k.uses_image = recipe.uses_batch, recipe.uses_image
        k.training, k.eps, k.fresh = call.training, recipe.eps, 1 - momentum
        self.call, self._described, self.address = call, k, ctypes.addressof(k)
        self._shape, self.last, self._dtype = shape, last, dtype
        self.size, self._sizes = native.sw_workspace(k), (channels, len(kinds))
        self._native = native
        self._forward, self._backward = native.sw_forward_tensors, native.sw_backward_tensors
        # Gradients are made by `empty_like` of these constants, and not of the parameters, which
        # may get another dtype or device before the backward pass. The workspace is made by
        # `empty_like` too: after a convolution no function is in the CPU's caches, and `new_empty`
        # would be one more to load.
        of_channels, of_kinds, of_workspace = (
            torch.empty(1, dtype=torch.float32, device="cpu").expand(size)
            for size in (*self._sizes, self.size)
        )
        self._like, self._workspace = (of_channels, of_channels, of_kinds, of_kinds), of_workspace

    def apply(
        self, x: Tensor, parameters: ParameterTensors, running: RunningTensors | None
    ) -> Tensor:
        if torch.is_grad_enabled():
            return _apply_recorded(x, *parameters, self, running)
        return self.forward(x, parameters, running, torch.empty_like(self._workspace))

    def forward(
        self,
        x: Tensor,
        parameters: ParameterTensors,
        running: RunningTensors | None,
        workspace: Tensor,
    ) -> Tensor:
        """Compute y, and fill `workspace` with what `backward` needs besides x. In training
        `running`, if given, is updated in place. Raises ValueError if a parameter has the wrong
        size, and `UnsupportedTensors` if x does not have the layer's shape, dtype and layout, or if
        C cannot read and write the running statistics in place.
        """
        y = torch.empty_like(x)
        failed = self._forward(
            self.address, x, y, workspace, parameters, running, torch.get_num_threads()
        )
        if failed == library.UNSUPPORTED:
            failed = self._forward_converted(x, y, workspace, parameters, running)
        if failed:
            raise MemoryError(_NO_MEMORY)
        return y

    def _forward_converted(
        self,
        x: Tensor,
        y: Tensor,
        workspace: Tensor,
        parameters: ParameterTensors,
        running: RunningTensors | None,
    ) -> int:
        """`sw_forward` with parameters converted to what C reads."""
        if not self._matches(x) or (running is None and self.call.recipe.uses_batch):
            raise UnsupportedTensors
        if running is not None:
            check_running(*running, self._sizes[0], self.call.recipe.group)
            if not all(map(is_readable, running)):
                raise UnsupportedTensors
        parameters = [p if p is None else _as_readable(p) for p in parameters]
        sized(parameters, *self._sizes)
        return self._native.sw_forward(
            self.address,
            *map(_pointer, (x, y, workspace, *(running or (None, None)), *parameters)),
            torch.get_num_threads(),
        )

    def _matches(self, x: Tensor) -> bool:
        """Whether `x` has the shape, dtype and layout of this layer, and memory that C can read."""
        return (
            x.shape == self._shape
            and x.dtype is self._dtype
            and x.is_contiguous(
                memory_format=torch.channels_last if self.last else torch.contiguous_format
            )
            and library.reads(x, half=True)
            and not abstract(x)
        )

    def values(self, workspace: Tensor) -> tuple[ParameterTensors, Running | None]:
        """What `forward` stored in `workspace`: γ and both kinds of logits (None for β, on which no
        gradient depends), and in eval mode the running statistics, otherwise None. `lay_out` in
        `native/src/fused_layer.c` defines the offsets.
        """
        k, (channels, kinds) = self._described, self._sizes
        gamma, mean, cov = workspace[: self.size][-channels - 2 * kinds :].split(
            [channels, kinds, kinds]
        )
        if k.training or not k.uses_batch:
            return (gamma, None, mean, cov), None
        of_images = k.images * channels * (2 + k.group)
        batch_mean, batch_cov = workspace[of_images:][: channels * (1 + k.group)].split(
            [channels, channels * k.group]
        )
        running = Running(
            batch_mean.view(-1, k.group, 1), batch_cov.view(-1, k.group, k.group), 1.0
        )
        return (gamma, None, mean, cov), running

    def backward(
        self, dy: Tensor, x: Tensor, workspace: Tensor, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x and the four parameters that are `wanted`, None for the others. The
        values of the parameters are in the workspace.

        Raises RuntimeError for an x or a workspace that differs from that of `forward`, as hooks on
        saved tensors may return, and `UnsupportedTensors` for a dy without memory.
        """
        gamma, beta, mean, cov = self._like
        gradients = (
            torch.empty_like(x) if wanted[0] else None,
            torch.empty_like(gamma) if wanted[1] else None,
            torch.empty_like(beta) if wanted[2] else None,
            torch.empty_like(mean) if wanted[3] else None,
            torch.empty_like(cov) if wanted[4] else None,
        )
        failed = self._backward(self.address, dy, x, workspace, gradients, torch.get_num_threads())
        if failed == library.UNSUPPORTED:
            return self._backward_converted(dy, x, workspace, gradients)
        if failed:
            raise MemoryError(_NO_MEMORY)
        return gradients

    def _backward_converted(
        self, dy: Tensor, x: Tensor, workspace: Tensor, gradients: Sequence[Tensor | None]
    ) -> tuple[Tensor | None, ...]:
        """`sw_backward` with its tensors converted to what C reads. The gradient of x is
        made anew.
        """
        if not library.has_memory(dy):  # a batch of gradients at once
            raise UnsupportedTensors
        if (
            x.shape != dy.shape
            or x.dtype is not self._dtype
            or workspace.dtype is not torch.float32
            or workspace.numel() < self.size
            or not (x.is_cpu and workspace.is_cpu)
        ):
            raise RuntimeError(
                "a saved tensor of a whitening layer came back with another shape, "
                "dtype or device; a hook that packs it has to restore these"
            )
        # Any layout is possible: of dy from an expanded gradient, of x from a hook that offloaded
        # it; and negated views.
        layout = torch.channels_last if self.last else torch.contiguous_format
        x = concrete(x).contiguous(memory_format=layout)
        dy = concrete(dy.to(x.dtype)).contiguous(memory_format=layout)
        workspace = concrete(workspace).contiguous()
        grad_x, *parameter_grads = gradients
        gradients = None if grad_x is None else torch.empty_like(x), *parameter_grads
        if self._native.sw_backward(
            self.address,
            *map(_pointer, (dy, x, workspace, *gradients)),
            torch.get_num_threads(),
        ):
            raise MemoryError(_NO_MEMORY)
        return gradients


@lru_cache(maxsize=1024)
def _layer_for(
    call: Call, momentum: float, shape: torch.Size, last: bool, dtype: torch.dtype
) -> FusedLayer:
    return FusedLayer(call, momentum, shape, last, dtype)


def fused_layer(call: Call, x: Tensor) -> FusedLayer:
    """The layer for inputs like `x`, cached for each kind of call."""
    momentum = 0.0 if call.running is None else call.running.momentum
    last = not x.is_contiguous()
    return _layer_for(call._replace(running=None), momentum, x.shape, last, x.dtype)


def _as_readable(parameter: Tensor) -> Tensor:
    """`parameter` converted to what C reads. Raises RuntimeError if it is not on the CPU."""
    on_one_device(torch.empty(0), (parameter,))
    return concrete(parameter).float().contiguous()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def is_readable(statistic: Tensor) -> bool:
    """Whether C can read and write a running statistic in place."""
    return (
        statistic.dtype is torch.float32
        and statistic.is_cpu
        and statistic.is_contiguous()
        and not abstract(statistic)
    )


class FusedWhitening(torch.autograd.Function):
    """The layer on a CPU with the native solver. Saves x, and one tensor of small
    matrices and of the parameters' values.
    """

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        gamma,
        beta,
        mean_logits,
        cov_logits,
        layer: FusedLayer,
        running: RunningTensors | None,
    ) -> Tensor:
        parameters, workspace = (
            (gamma, beta, mean_logits, cov_logits),
            torch.empty_like(layer._workspace),
        )
        y = layer.forward(x, parameters, running, workspace)
        ctx.save_for_backward(x, workspace)
        ctx.layer_and_parameters = layer, parameters
        return y

    @staticmethod
    def backward(ctx, dy: Tensor):
        # Read once: a second access is an error with activation checkpointing.
        (x, workspace), wanted = ctx.saved_tensors, ctx.needs_input_grad
        if not torch.is_grad_enabled():
            try:  # not `suppress`, which is two calls more
                return *ctx.layer_and_parameters[0].backward(dy, x, workspace, wanted), None, None
            except UnsupportedTensors:
                pass
        return _with_graph(ctx, x, workspace, dy)


# torch's own `apply` looks up the function to call, in two functions of Python: 12 µs of a small
# layer's 100 after a convolution.
FusedWhitening._backward_cls.apply = FusedWhitening.backward
_apply_recorded = super(torch.autograd.Function, FusedWhitening).apply
"""`FusedWhitening.apply` without the support of torch.func's transforms, which do not come here: it
costs a tenth of a small layer's dispatch (benchmarks/dispatch_cpu.py).
"""


def _with_graph(ctx, x: Tensor, workspace: Tensor, dy: Tensor):
    layer, parameters = ctx.layer_and_parameters
    values, running = layer.values(workspace)
    grads = composed.gradients(
        layer.call._replace(running=running), (x, *parameters), values, ctx.needs_input_grad[:5], dy
    )
    return *grads, None, None


def forward(call: Call, x: Tensor, parameters: ParameterTensors, workspace: Tensor) -> Tensor:
    """Compute y without autograd, for any running statistics."""
    layer, running = fused_layer(call, x), call.running and call.running[:2]
    try:
        return layer.forward(x, parameters, running, workspace)
    except UnsupportedTensors:
        on_one_device(x, running)
    moved = tuple(concrete(old).float().contiguous() for old in running)
    y = layer.forward(x, parameters, moved, workspace)
    if call.training:
        for old, new in zip(running, moved, strict=True):
            old.copy_(new)
    return y
