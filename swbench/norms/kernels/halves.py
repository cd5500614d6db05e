"""A whole layer as two plain functions with one tensor between them: for a caller who keeps it
himself, as a compiled graph does.
"""

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from swbench.norms.kernels import algebra
from swbench.norms.kernels.algebra import Parameters, Solved
from swbench.norms.recipe import Recipe, basis
from swbench.norms.statistics import Statistics
from swbench.norms.whitening import back, there
from swbench.solvers.base import Solver

if TYPE_CHECKING:
    from swbench.norms.kernels.base import Kernels
    from swbench.norms.whitening import Call

Given = tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]
"""γ, β and the two vectors of logits, each None where the layer has none."""


class Halves(ABC):
    """The forward half fills `room`, a vector in `statistics_dtype(x)`, with all that the backward
    half needs beside x and the parameters.

    What a caller promises is what `Kernels` says of x and dy, of which dy may have any layout;
    ranks are not his concern. Neither half records autograd state or waits for the host; every
    result is a new tensor, and none is part of another.
    """

    @abstractmethod
    def room(
        self, call: "Call", images: int, channels: int, dtype: torch.dtype, device: str
    ) -> int:
        """Elements of `room` at least, from two images on linear in their number. `dtype` is that
        of the statistics; `call.running` is not looked at.
        """

    @abstractmethod
    def forward(self, call: "Call", x: Tensor, given: Given, room: Tensor) -> Tensor:
        """y, in the dtype and layout of x. In training mode `call.running` moves."""

    @abstractmethod
    def backward(
        self, call: "Call", dy: Tensor, x: Tensor, given: Given, room: Tensor, wants_dx: bool
    ) -> tuple[Tensor | None, ...]:
        """The gradients of x (None unless `wants_dx`) and of the four `given`. `call.running` is
        not looked at; `room` is left as it is.
        """


class Passes(Halves):
    """The halves that any kernel set has: the functions of `Whitening`, with what they save put one
    behind the other.
    """

    def room(self, call, images, channels, dtype, device):
        # The constants are made here, before anything runs: in a compiler's graphs nothing may
        # outlive a call. An image alone has one source.
        for sources in (1, 2):
            basis(call.recipe, sources, torch.empty(0, dtype=dtype, device=device))
        return sum(_count(shape) for shape, _ in _parts(call, images, channels, dtype, device))

    def forward(self, call, x, given, room):
        y, shift, stats, _, solved = there(call, x, given)
        of_batch = (None, None) if stats.alone else (stats.batch_mean, stats.batch_cov)
        kept = (shift, stats.mean, stats.cov, *of_batch, *solved[:4], *solved.saved)
        torch.cat([t.reshape(-1).to(room.dtype) for t in kept if t is not None], out=room)
        return y

    def backward(self, call, dy, x, given, room, wants_dx):
        recipe, images = call.recipe, x.shape[0]
        parts = _parts(call, images, x.shape[1], room.dtype, x.device.type)
        vectors = room.split([_count(shape) for shape, _ in parts])
        shift, *kept = (
            v.view(shape).to(dtype) for v, (shape, dtype) in zip(vectors, parts, strict=True)
        )
        mean, cov = (kept.pop(0), kept.pop(0)) if _of_images(call) else (None, None)
        alone = _alone(call, images)
        batch = (None, None)
        if recipe.uses_batch:
            batch = (mean[0], cov[0]) if alone else (kept.pop(0), kept.pop(0))
        stats = Statistics(
            mean, cov, *batch, 1 / images if recipe.uses_batch and call.training else 0.0, alone
        )
        parameters = Parameters(*(p if p is None else p.to(room.dtype) for p in given))
        solved = algebra.remixed(recipe, stats, parameters, Solved(*kept[:4], tuple(kept[4:])))
        return back(call, dy, x, shift, stats, parameters, solved, wants_dx)


PASSES = Passes()


def _count(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def _alone(call: "Call", images: int) -> bool:
    return images == 1 and call.training and call.recipe.uses_batch


def _of_images(call: "Call") -> bool:
    return call.training or call.recipe.uses_image


def _parts(
    call: "Call", images: int, channels: int, dtype: torch.dtype, device: str
) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shapes and dtypes of what lies in the room, in order: shift, statistics of the images, of the
    batch, `Solved`, what the solver saved.
    """
    recipe = call.recipe
    group, groups = recipe.group, channels // recipe.group
    vector, matrix = (groups, group), (groups, group, group)
    shapes = [(images, channels)]
    if _of_images(call):
        shapes += [(images, *vector), (images, *matrix)]
    if recipe.uses_batch and not _alone(call, images):
        shapes += [vector, matrix]
    sets = images if recipe.uses_image else 1
    shapes += [(sets, *matrix), (sets, *vector), (sets, *matrix), (sets, *vector)]
    saved = _saved(recipe, call.solver, call.kernels, dtype, device)
    return [(shape, dtype) for shape in shapes] + [
        ((sets * groups, *rest), kind) for rest, kind in saved
    ]


@lru_cache(maxsize=256)
def _saved(
    recipe: Recipe, solver: Solver, kernels: "Kernels", dtype: torch.dtype, device: str
) -> tuple[tuple[tuple[int, ...], torch.dtype], ...]:
    """Shapes, without the first dimension, and dtypes of what a solve leaves for its gradient:
    found by one of two unit matrices.

    Of real ones, also while `torch.export` lets everything compute on fake tensors: those a solver
    in C leaves to torch, which saves something else.
    """
    group, kinds = recipe.group, len(recipe.statistics)
    with _disable_current_modes():
        mean, logits = (
            torch.zeros(2, 1, group, dtype=dtype, device=device),
            torch.zeros(kinds, dtype=dtype, device=device),
        )
        cov = torch.eye(group, dtype=dtype, device=device).repeat(2, 1, 1, 1)
        stats = Statistics(mean, cov, mean[0].clone(), cov[0].clone(), share=0.5)
        solved = kernels.mix_and_solve(
            recipe, solver, stats, Parameters(None, None, logits, logits)
        )
    matrices = solved.w.shape[0]
    if any(t.dim() == 0 or t.shape[0] != matrices for t in solved.saved):
        shapes = [tuple(t.shape) for t in solved.saved]
        raise ValueError(
            f"solver {solver.name!r} saves {shapes} of {matrices} matrices; a "
            "compiled layer needs the first dimension to count them"
        )
    return tuple((tuple(t.shape[1:]), t.dtype) for t in solved.saved)
