"""The backend in C on a CPU: every tensor is read once and the result written once, on torch's own
threads.
"""

import ctypes
from typing import ClassVar

import torch
from torch import Tensor

from swbench.native import library
from swbench.norms.context import Call, ParameterTensors
from swbench.norms.kernels import algebra, native_fused
from swbench.norms.kernels.algebra import Gradients, Parameters, Reduce, Solved
from swbench.norms.kernels.native_fused import FusedLayer, fused_layer, statistics_of
from swbench.norms.kernels.torch_ops import TorchBackend
from swbench.norms.recipe import Recipe
from swbench.norms.statistics import Statistics
from swbench.norms.tensors import statistics_dtype
from swbench.solvers.base import Solver
from swbench.solvers.polar_native import PolarNative


class NativeBackend(TorchBackend):
    """float32, bfloat16 and float16 on a CPU, both layouts, G ≤ 64; a larger G runs on the torch
    operations it inherits. Everything but x, y and their gradients is float32.

    Sums are taken in blocks of pixels that depend on the shape alone, so results do not depend on
    the number of threads.
    """

    name: ClassVar[str] = "native"

    def __init__(self) -> None:
        self._native = library.load()
        self._available = library.missing() is None

    def takes(self, x: Tensor) -> bool:
        return self._available and library.reads(x, half=True)

    def moments(self, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        if group > library.MAX_GROUP:
            return super().moments(x, shift, group)
        mean, cov = _empty_sums(x, group)
        pointers = (x.data_ptr(), shift.data_ptr(), mean.data_ptr(), cov.data_ptr())
        _check_memory(self._native.sw_moments(*pointers, *_shape(x, group)))
        return mean, cov

    def affine(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        group = a.shape[-1]
        if group > library.MAX_GROUP:
            return super().affine(x, a, b)
        a, b, y = a.contiguous(), b.contiguous(), torch.empty_like(x)
        self._native.sw_affine(
            x.data_ptr(),
            a.data_ptr(),
            b.data_ptr(),
            a.shape[0] == 1,
            y.data_ptr(),
            *_shape(x, group),
        )
        return y

    def products(self, dy: Tensor, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        if group > library.MAX_GROUP:
            return super().products(dy, x, shift, group)
        s, m = _empty_sums(x, group)
        pointers = (dy.data_ptr(), x.data_ptr(), shift.data_ptr(), m.data_ptr(), s.data_ptr())
        _check_memory(self._native.sw_products(*pointers, *_shape(x, group)))
        return m, s

    def combine(self, dy: Tensor, x: Tensor, at: Tensor, b: Tensor, c: Tensor) -> Tensor:
        group = at.shape[-1]
        if group > library.MAX_GROUP:
            return super().combine(dy, x, at, b, c)
        a = at.mT
        transposed = a.is_contiguous()
        a, b, c, dx = (
            a if transposed else at.contiguous(),
            b.contiguous(),
            c.contiguous(),
            torch.empty_like(x),
        )
        matrices = (a.data_ptr(), transposed, b.data_ptr(), c.data_ptr(), a.shape[0] == 1)
        self._native.sw_combine(
            dy.data_ptr(), x.data_ptr(), *matrices, dx.data_ptr(), *_shape(x, group)
        )
        return dx

    def fused(self, call: Call, x: Tensor) -> FusedLayer | None:
        return fused_layer(call, x) if _is_fusable(call.recipe, call.solver) else None

    def workspace_size(
        self, call: Call, images: int, channels: int, dtype: torch.dtype, device: str
    ) -> int:
        if not _is_fusable(call.recipe, call.solver):
            return super().workspace_size(call, images, channels, dtype, device)
        shape = torch.Size((images, channels, 1, 1))
        return FusedLayer(call._replace(running=None), 0.0, shape, False, torch.float32).size

    def forward(
        self, call: Call, x: Tensor, parameters: ParameterTensors, workspace: Tensor
    ) -> Tensor:
        if not _is_fusable(call.recipe, call.solver):
            return super().forward(call, x, parameters, workspace)
        return native_fused.forward(call, x, parameters, workspace)

    def backward(self, call, dy, x, parameters, workspace, wants_dx):
        if not _is_fusable(call.recipe, call.solver):
            return super().backward(call, dy, x, parameters, workspace, wants_dx)
        wanted = (wants_dx, *(p is not None for p in parameters))
        return fused_layer(call, x).backward(dy, x, workspace, wanted)

    def mix_and_solve(
        self, recipe: Recipe, solver: Solver, stats: Statistics, parameters: Parameters
    ) -> Solved:
        if not _is_fusable(recipe, solver):
            return super().mix_and_solve(recipe, solver, stats, parameters)
        layer = _layer(recipe, stats, parameters)
        count = 1 if layer.shared else layer.images
        like = stats.batch_mean if stats.mean is None else stats.mean
        matrices, vectors = (
            (count, layer.groups, recipe.group, recipe.group),
            (count, layer.groups, recipe.group),
        )
        solved = Solved(
            *(like.new_empty(shape) for shape in (matrices, vectors, matrices, vectors)), saved=()
        )
        norm = like.new_empty(count * layer.groups)
        _set_results(layer, solved, norm)
        _check_memory(self._native.sw_mix_and_solve(layer, torch.get_num_threads()))
        return solved._replace(saved=(solved.w.view(-1, recipe.group, recipe.group), norm))

    def small_gradients(
        self,
        recipe: Recipe,
        solver: Solver,
        stats: Statistics,
        parameters: Parameters,
        solved: Solved,
        m: Tensor,
        s: Tensor,
        shift: Tensor,
        pixels: int,
        reduce: Reduce | None = None,
    ) -> Gradients:
        constant = not recipe.uses_image and stats.share == 0
        if not _is_fusable(recipe, solver) or constant or reduce is not None:
            solved = algebra.with_mixture(recipe, stats, parameters, solved)
            return super().small_gradients(
                recipe, solver, stats, parameters, solved, m, s, shift, pixels, reduce
            )
        layer = _layer(recipe, stats, parameters)
        _set_results(layer, solved, solved.saved[1])
        m, s = m.contiguous(), s.contiguous()
        layer.images, layer.per_pixel = m.shape[0], 1 / pixels
        layer.m, layer.s, layer.shift = m.data_ptr(), s.data_ptr(), shift.data_ptr()
        results = Gradients(
            torch.empty_like(solved.a),
            torch.empty_like(solved.b),
            *(p if p is None else torch.empty_like(p) for p in parameters),
        )
        (
            layer.grad_b,
            layer.grad_c,
            layer.grad_gamma,
            layer.grad_beta,
            layer.grad_mean_logits,
            layer.grad_cov_logits,
        ) = map(_pointer, results)
        _check_memory(self._native.sw_small_gradients(layer, torch.get_num_threads()))
        return results


def _is_fusable(recipe: Recipe, solver: Solver) -> bool:
    return type(solver) is PolarNative and recipe.group <= library.MAX_GROUP


def _layer(recipe: Recipe, stats: Statistics, parameters: Parameters) -> library.Layer:
    """The inputs of forward and backward in C. As in `algebra`, a batch of one image has the
    image's statistics alone; they are set where the recipe uses them.
    """
    images = stats.single_image or recipe.uses_image
    mean, cov = (stats.mean, stats.cov) if images else (None, None)
    batch_mean, batch_cov = (
        (None, None)
        if stats.single_image or not recipe.uses_batch
        else (stats.batch_mean, stats.batch_cov)
    )
    like = mean if images else batch_mean.unsqueeze(0)
    kinds = statistics_of(recipe)
    layer = library.Layer(
        ctypes.addressof(kinds),
        len(kinds),
        like.shape[0],
        like.shape[1],
        recipe.group,
        not images,
        recipe.eps,
        0,
        stats.share,
    )
    layer.statistics_array = kinds  # the structure holds only its address
    layer.mean, layer.cov, layer.batch_mean, layer.batch_cov = map(
        _pointer, (mean, cov, batch_mean, batch_cov)
    )
    layer.gamma, layer.beta, layer.mean_logits, layer.cov_logits = map(_pointer, parameters)
    return layer


def _set_results(layer: library.Layer, solved: Solved, norm: Tensor) -> None:
    layer.a, layer.b, layer.w, layer.mixed_mean, layer.norm = map(_pointer, (*solved[:4], norm))


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _shape(x: Tensor, group: int) -> tuple[int, ...]:
    """Images, channels, pixels, group, channels_last, element, threads: the last arguments of every
    pass in C.
    """
    n, channels, height, width = x.shape
    last, element = not x.is_contiguous(), library.elements()[x.dtype]
    return n, channels, height * width, group, last, element, torch.get_num_threads()


def _empty_sums(x: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Empty tensors for a vector (N, g, G) and a matrix (N, g, G, G)."""
    n, groups = x.shape[0], x.shape[1] // group
    dtype = statistics_dtype(x)
    return (
        x.new_empty(n, groups, group, dtype=dtype),
        x.new_empty(n, groups, group, group, dtype=dtype),
    )


def _check_memory(failed: int) -> None:
    if failed:
        raise MemoryError("no memory for the partial sums of a native pass")
