"""Packing of the tensors that the backward pass of a layer needs into one vector, which a compiled
graph saves.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from swbench.norms.context import Call
from swbench.norms.kernels.algebra import Parameters, Solved
from swbench.norms.kernels.passes import Passes
from swbench.norms.recipe import Recipe
from swbench.norms.statistics import Statistics
from swbench.solvers.base import Solver


def size(
    passes: Passes, call: Call, images: int, channels: int, dtype: torch.dtype, device: str
) -> int:
    """Elements of the vector for `images` of C `channels`; `dtype` is that of the statistics."""
    return sum(_count(shape) for shape, _ in _layout(passes, call, images, channels, dtype, device))


def pack(workspace: Tensor, shift: Tensor, stats: Statistics, solved: Solved) -> None:
    """Fill `workspace`. The statistics of a single image serve as those of its batch too."""
    batch = (None, None) if stats.single_image else (stats.batch_mean, stats.batch_cov)
    saved = (shift, stats.mean, stats.cov, *batch, *solved[:4], *solved.saved)
    torch.cat([t.reshape(-1).to(workspace.dtype) for t in saved if t is not None], out=workspace)


def unpack(
    passes: Passes, call: Call, x: Tensor, workspace: Tensor
) -> tuple[Tensor, Statistics, Solved]:
    """The shift, the statistics and the results of the solve, without what the mixture saved."""
    recipe, images = call.recipe, x.shape[0]
    layout = _layout(passes, call, images, x.shape[1], workspace.dtype, x.device.type)
    vectors = workspace.split([_count(shape) for shape, _ in layout])
    shift, *saved = (
        v.view(shape).to(dtype) for v, (shape, dtype) in zip(vectors, layout, strict=True)
    )
    mean, cov = (saved.pop(0), saved.pop(0)) if _has_image_statistics(call) else (None, None)
    single_image = _is_single_image(call, images)
    batch = (None, None)
    if recipe.uses_batch:
        batch = (mean[0], cov[0]) if single_image else (saved.pop(0), saved.pop(0))
    share = 1 / images if recipe.uses_batch and call.training else 0.0
    stats = Statistics(mean, cov, *batch, share, single_image)
    return shift, stats, Solved(*saved[:4], tuple(saved[4:]))


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _is_single_image(call: Call, images: int) -> bool:
    return images == 1 and call.training and call.recipe.uses_batch


def _has_image_statistics(call: Call) -> bool:
    return call.training or call.recipe.uses_image


def _layout(
    passes: Passes, call: Call, images: int, channels: int, dtype: torch.dtype, device: str
) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and dtypes of the parts of the vector, in order: shift, statistics of the images and
    of the batch, `Solved`, the tensors that the solver saved.
    """
    recipe = call.recipe
    group, groups = recipe.group, channels // recipe.group
    vector, matrix = (groups, group), (groups, group, group)
    shapes = [(images, channels)]
    if _has_image_statistics(call):
        shapes += [(images, *vector), (images, *matrix)]
    if recipe.uses_batch and not _is_single_image(call, images):
        shapes += [vector, matrix]
    sets = images if recipe.uses_image else 1
    shapes += [(sets, *matrix), (sets, *vector), (sets, *matrix), (sets, *vector)]
    saved = solver_parts(recipe, call.solver, passes, dtype, device)
    return [(shape, dtype) for shape in shapes] + [
        ((sets * groups, *rest), kind) for rest, kind in saved
    ]


@lru_cache(maxsize=256)
def solver_parts(
    recipe: Recipe, solver: Solver, passes: Passes, dtype: torch.dtype, device: str
) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    """Shapes, without the first dimension, and dtypes of the tensors that a solver saves for its
    gradient, determined by solving two unit matrices.

    The matrices are real even while `torch.export` computes on fake tensors. A solver in C would
    leave fake matrices to torch, which saves other tensors. Raises ValueError where the first
    dimension of a saved tensor does not count the matrices.
    """
    group, kinds = recipe.group, len(recipe.statistics)
    with _disable_current_modes():
        mean, logits = (
            torch.zeros(2, 1, group, dtype=dtype, device=device),
            torch.zeros(kinds, dtype=dtype, device=device),
        )
        cov = torch.eye(group, dtype=dtype, device=device).repeat(2, 1, 1, 1)
        stats = Statistics(mean, cov, mean[0].clone(), cov[0].clone(), share=0.5)
        solved = passes.mix_and_solve(recipe, solver, stats, Parameters(None, None, logits, logits))
    matrices = solved.w.shape[0]
    if any(t.dim() == 0 or t.shape[0] != matrices for t in solved.saved):
        shapes = [tuple(t.shape) for t in solved.saved]
        raise ValueError(
            f"solver {solver.name!r} saves {shapes} of {matrices} matrices; a "
            "compiled layer needs the first dimension to count them"
        )
    return tuple((tuple(t.shape[1:]), t.dtype) for t in solved.saved)
