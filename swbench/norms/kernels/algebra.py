"""The small algebra of a whitening layer on G×G matrices: from statistics to A and b, and backward.

At batch 1 the cost of these operations is their dispatch, so they are few: one addition where a
single covariance is used as it is (BW, IW, and SW^a on a batch of one image, where both covariances
are the same), a handful of multiply-adds elsewhere.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from swbench.norms.recipe import FULL, IMAGE, LAYER, Recipe
from swbench.norms.statistics import Statistics
from swbench.solvers.base import Solver
from swbench.solvers.cuda_capture import capturing

Reduce = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""A function that sums the gradients of the batch mean (g, G) and batch covariance (g, G, G) over
ranks, times the share of this rank in the batch.
"""


class Parameters(NamedTuple):
    """The learnt parameters of a layer in the statistics dtype: γ and β (C,), mean and covariance
    logits (K,), each or None.
    """

    gamma: Tensor | None = None
    beta: Tensor | None = None
    mean_logits: Tensor | None = None
    cov_logits: Tensor | None = None


class Solved(NamedTuple):
    """The map y = A x + b, and what backward needs. n is N, or 1 where all images share their
    matrices.
    """

    a: Tensor
    """diag(γ) W, (n, g, G, G)."""
    b: Tensor
    """β − A μ̂, (n, g, G)."""
    w: Tensor
    """W = (Σ̂ + εI)^(-1/2), (n, g, G, G)."""
    mean: Tensor
    """μ̂, (n, g, G)."""
    saved: tuple[Tensor, ...]
    """The tensors that the solver saved."""
    mixed: tuple[Tensor, ...] = ()
    """The tensors that the mixture saved; none where a single covariance is used as it is."""


class Gradients(NamedTuple):
    """B and c of dx = Aᵀ dy + B x + c, and the gradients of the parameters (None where there is no
    such parameter).

    `b` and `c` are None where no gradient flows through statistics (BW in eval mode).
    """

    b: Tensor | None
    c: Tensor | None
    gamma: Tensor | None = None
    beta: Tensor | None = None
    mean_logits: Tensor | None = None
    cov_logits: Tensor | None = None


class Basis(NamedTuple):
    """Constant tensors of a recipe of K statistics, for S sources (batch, image, or both in this
    order).
    """

    eps_eye: Tensor
    """ε·I, (G, G)."""
    eye: Tensor
    """I, (G, G)."""
    mean: Tensor
    """(K, S), with one more column if there is a layer statistic: 1 where statistic k takes its
    mean from that source, else 0.
    """
    cov: Tensor
    """(K, S·G·G): the factors of each source's covariance, elementwise: ones (full), I (diagonal),
    or zeros.
    """


_BASES: dict[tuple[Recipe, int, torch.dtype, torch.device], Basis] = {}
"""Cached for good: a captured graph reads this memory in each replay."""


def basis(recipe: Recipe, sources: int, like: Tensor) -> Basis:
    """The constants of `recipe` in the dtype and on the device of `like`. With one source every
    statistic but `ln` is taken from it; with two, the first is the batch and the second the image.

    They are cached, except in two cases. If `like` is no plain tensor they would be fake. While a
    CUDA graph is captured they would get their values only in a replay.
    """
    key = recipe, sources, like.dtype, like.device
    if type(like) is not Tensor:
        return _build_basis(*key)
    cached = _BASES.get(key)
    if cached is None:
        with torch.inference_mode(False):  # whose tensors cannot be saved for backward
            cached = _build_basis(*key)
        if not capturing(like.device):
            _BASES[key] = cached
    return cached


def make_constants(recipe: Recipe, dtype: torch.dtype, device: "torch.device | str") -> None:
    """Make and cache the constants of `recipe` in advance, for compiled graphs and traces, where
    tensors made in a call do not outlive it. A single image has one source.
    """
    for sources in (1, 2):
        basis(recipe, sources, torch.empty(0, dtype=dtype, device=device))


def _build_basis(recipe: Recipe, sources: int, dtype: torch.dtype, device: torch.device) -> Basis:
    group = recipe.group
    eye = torch.eye(group, dtype=dtype, device=device)
    rows, columns = len(recipe.statistics), sources + (recipe.layer_index is not None)
    mean = torch.zeros(rows, columns, dtype=dtype, device=device)
    cov = torch.zeros(rows, sources, group, group, dtype=dtype, device=device)
    for k, name in enumerate(recipe.statistics):
        if name == LAYER:
            mean[k, sources] = 1
            continue
        source = 1 if sources == 2 and name in IMAGE else 0
        mean[k, source] = 1
        cov[k, source] = 1 if name in FULL else eye
    # Filled, not multiplied: a FLOP count must not depend on whether they were cached.
    eps_eye = torch.diag_embed(torch.full((group,), recipe.eps, dtype=dtype, device=device))
    return Basis(eps_eye, eye, mean, cov.view(rows, -1))


class _Source(NamedTuple):
    """A mean (N or 1, g, G) and covariance (N or 1, g, G, G) that statistics are taken from."""

    mean: Tensor
    cov: Tensor
    of_batch: bool


def _sources(recipe: Recipe, stats: Statistics) -> tuple[_Source, ...]:
    """The batch, the image, or both in this order. A batch of one image has the image alone."""
    image = _Source(stats.mean, stats.cov, False)
    if stats.single_image or not recipe.uses_batch:
        return (image,)
    batch = _Source(stats.batch_mean.unsqueeze(0), stats.batch_cov.unsqueeze(0), True)
    return (batch, image) if recipe.uses_image else (batch,)


def mix_and_solve(
    recipe: Recipe, solver: Solver, stats: Statistics, parameters: Parameters
) -> Solved:
    """μ̂ = Σ ω_k μ_k, Σ̂ = Σ ω'_k Σ_k + εI (Pan et al. 2019, eqs. 5, 6), W by `solver`, then A and
    b.
    """
    mean, cov, mixed = mixture(recipe, stats, parameters)
    shape = cov.shape
    n, g, group, _ = shape
    w, saved = solver.forward(cov.view(-1, group, group))
    a = w if parameters.gamma is None else w * tiled(parameters.gamma, n).view(-1, group, 1)
    column = mean.view(-1, group, 1)
    b = (
        torch.bmm(a, column).neg_()
        if parameters.beta is None
        else torch.baddbmm(tiled(parameters.beta, n).view(-1, group, 1), a, column, alpha=-1)
    )
    return Solved(a.view(shape), b.view(n, g, group), w.view(shape), mean, saved, mixed)


def mixture(
    recipe: Recipe, stats: Statistics, parameters: Parameters
) -> tuple[Tensor, Tensor, tuple[Tensor, ...]]:
    """μ̂ (n, g, G) and Σ̂ + εI (n, g, G, G), eqs. 5 and 6, and what the gradient of the weights
    needs.
    """
    sources = _sources(recipe, stats)
    first = sources[0]
    constants = basis(recipe, len(sources), first.cov)
    if recipe.all_full and len(sources) == 1:
        return first.mean, first.cov + constants.eps_eye, ()
    return _mix(recipe, stats, sources, constants, parameters)


def tiled(vector: Tensor, n: int) -> Tensor:
    """`vector` (C,) for every of n images, (n·C,)."""
    return vector if n == 1 else vector.repeat(n)


def _mix(
    recipe: Recipe,
    stats: Statistics,
    sources: tuple[_Source, ...],
    constants: Basis,
    parameters: Parameters,
):
    mean_weights, cov_weights = parameters.mean_logits.softmax(0), parameters.cov_logits.softmax(0)
    group = recipe.group
    mean_factors = mean_weights @ constants.mean
    cov_factors = (cov_weights @ constants.cov).view(-1, group, group)
    mean, cov = (
        mean_factors[0] * sources[0].mean,
        torch.addcmul(constants.eps_eye, sources[0].cov, cov_factors[0]),
    )
    if len(sources) == 2:
        mean = torch.addcmul(mean, sources[1].mean, mean_factors[1])
        cov = torch.addcmul(cov, sources[1].cov, cov_factors[1])
    mixed = (mean_weights, cov_weights, mean_factors, cov_factors)
    if recipe.layer_index is not None:
        var, centre = torch.var_mean(stats.mean, (1, 2), correction=0, keepdim=True)
        var = var + stats.cov.diagonal(dim1=-2, dim2=-1).mean((1, 2), keepdim=True)
        mean = torch.addcmul(mean, centre, mean_factors[-1])
        cov = torch.addcmul(
            cov, constants.eye, (var * cov_weights[recipe.layer_index]).unsqueeze(-1)
        )
        mixed = (*mixed, centre, var)
    return mean, cov, mixed


def with_mixture(
    recipe: Recipe, stats: Statistics, parameters: Parameters, solved: Solved
) -> Solved:
    """`solved` with the tensors that the mixture saves, recomputed where a fused backend did not
    save them and `small_gradients` here takes over.
    """
    sources = _sources(recipe, stats)
    if solved.mixed or (recipe.all_full and len(sources) == 1):
        return solved
    constants = basis(recipe, len(sources), sources[0].cov)
    return solved._replace(mixed=_mix(recipe, stats, sources, constants, parameters)[2])


def small_gradients(
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
    """The backward pass from Σ dy (x − shift)ᵀ and Σ dy: see `Passes.small_gradients`.

    With ∂μ̂ = −Aᵀ Σ dy and ∂Σ̂ from the solver, a mean μ and covariance Σ over P pixels pass on dx
    = (2/P) ∂Σ (x − μ) + ∂μ/P, and a batch covariance Σ_b = mean(Σ_n) + cov(μ_n) does the same with
    its own μ_b and P.
    """
    shape = solved.w.shape
    n, g, group, _ = shape
    gamma, beta, count = parameters.gamma, parameters.beta, n * g
    mean_deviation = (solved.mean - shift.view(-1, g, group)).view(-1, 1, group)
    m = torch.baddbmm(
        m.view(-1, group, group), s.view(-1, group, 1), mean_deviation, alpha=-1
    ).view(-1, *shape[1:])
    if n < len(m):
        m, s = m.sum(0, keepdim=True), s.sum(0, keepdim=True)
    m, column = m.view(count, group, group), s.view(count, group, 1)
    grad_gamma = None if gamma is None else (m.view(shape) * solved.w).sum((0, 3)).view(-1)
    grad_beta = None if beta is None else s.sum(0).view(-1)
    sources = _sources(recipe, stats)
    first = sources[0]
    if first.of_batch and len(sources) == 1 and not stats.share:
        return Gradients(None, None, grad_gamma, grad_beta)
    d_cov = solver.gradient(
        solved.saved, m if gamma is None else m * tiled(gamma, n).view(count, group, 1)
    ).view(shape)
    minus_d_mean = torch.bmm(solved.a.view(count, group, group).mT, column).view(n, g, group)
    if solved.mixed:
        mixture = _unmix(
            recipe, stats, sources, solved.mixed, minus_d_mean.neg_(), d_cov, shift, pixels, reduce
        )
        return Gradients(
            mixture.b, mixture.c, grad_gamma, grad_beta, mixture.mean_logits, mixture.cov_logits
        )
    per_pixel = stats.share / pixels if first.of_batch else 1 / pixels
    if first.of_batch and reduce is not None:
        minus_d_mean, d_cov = (t.unsqueeze(0) for t in reduce(minus_d_mean[0], d_cov[0]))
    b = d_cov * (2 * per_pixel)
    c = _offset(minus_d_mean, -per_pixel, b, first.mean)
    logits = (
        None if p is None else torch.zeros_like(p)
        for p in (parameters.mean_logits, parameters.cov_logits)
    )
    return Gradients(b, c, grad_gamma, grad_beta, *logits)


def _offset(d_mean: Tensor, per_pixel: float, b: Tensor, mean: Tensor) -> Tensor:
    """∂μ/P − B μ for every item, in the shape of `d_mean`."""
    group = mean.shape[-1]
    product = torch.baddbmm(
        d_mean.view(-1, group, 1),
        b.view(-1, group, group),
        mean.view(-1, group, 1),
        beta=per_pixel,
        alpha=-1,
    )
    return product.view(d_mean.shape)


def _unmix(
    recipe,
    stats,
    sources,
    mixed,
    d_mean: Tensor,
    d_cov: Tensor,
    shift: Tensor,
    pixels: int,
    reduce: Reduce | None,
) -> Gradients:
    """The gradient through the mixture, from ∂μ̂ and ∂Σ̂. Sums the gradients of the batch
    statistics.
    """
    mean_weights, cov_weights, mean_factors, cov_factors, *layer = mixed
    constants = basis(recipe, len(sources), d_cov)
    shift = shift.view(-1, *d_mean.shape[1:])[: len(d_mean)]
    # Gradients of the factors of each source. A common offset of the means (shift) cancels in the
    # gradient of the softmax.
    means = [(d_mean * (source.mean - shift)).sum() for source in sources]
    covs = [(d_cov * source.cov).sum((0, 1)) for source in sources]
    image = sources[-1]
    image_d_mean, image_d_cov = d_mean * mean_factors[len(sources) - 1], d_cov * cov_factors[-1]
    if layer:
        centre, var = layer
        trace = d_cov.diagonal(dim1=-2, dim2=-1).sum((1, 2)).view(-1, 1, 1)
        means.append((d_mean * (centre - shift)).sum())
        d_var = trace * (cov_weights[recipe.layer_index] / stats.mean[0].numel())
        image_d_cov = torch.addcmul(image_d_cov, constants.eye, d_var.unsqueeze(-1))
        image_d_mean = torch.addcmul(image_d_mean, d_var, stats.mean - centre, value=2)
        image_d_mean = torch.addcmul(
            image_d_mean, d_mean.mean((1, 2), keepdim=True), mean_factors[-1]
        )
    b = image_d_cov * (2 / pixels)
    c = _offset(image_d_mean, 1 / pixels, b, image.mean)
    if len(sources) == 2 and stats.share:
        batch_d_mean, batch_d_cov = d_mean.sum(0) * mean_factors[0], d_cov.sum(0) * cov_factors[0]
        if reduce is not None:
            batch_d_mean, batch_d_cov = reduce(batch_d_mean, batch_d_cov)
        batch_b = batch_d_cov * (2 * stats.share / pixels)
        c = c + _offset(batch_d_mean, stats.share / pixels, batch_b, stats.batch_mean)
        b = b + batch_b
    grad_mean_weights = constants.mean @ torch.stack(means)
    grad_cov_weights = constants.cov @ torch.stack(covs).view(-1)
    if layer:
        grad_cov_weights[recipe.layer_index] = (trace * var).sum()
    return Gradients(
        b,
        c,
        None,
        None,
        _through_softmax(mean_weights, grad_mean_weights),
        _through_softmax(cov_weights, grad_cov_weights),
    )


def _through_softmax(weights: Tensor, grad: Tensor) -> Tensor:
    return weights * (grad - weights @ grad)
