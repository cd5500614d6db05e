"""The backward pass through the small matrices: from Σ dy (x − s)ᵀ and Σ dy to B, c and the
gradients of the parameters. One program for each tile of matrices.
"""

import triton
import triton.language as tl

from swbench.norms.kernels.triton_kernels.indexing import (
    central,
    diagonal,
    sum_parts,
    tile_of_program,
)
from swbench.norms.kernels.triton_kernels.mixture import FIELDS, finish, of_covariances, of_means
from swbench.norms.kernels.triton_kernels.solve import ALONE, MERGED
from swbench.solvers.triton_kernels.polar import both_sides, whitened_gradient
from swbench.solvers.triton_kernels.tile import frobenius, symmetric_part


@triton.jit
def masked_sum(values, mask):
    """The sum of `values` (TILE,) or (TILE, TILE) where `mask`."""
    values = tl.where(mask, values, 0.0)
    if len(values.shape) == 2:
        values = tl.sum(values, 1)
    return tl.sum(values, 0)


@triton.jit(do_not_specialize=["centre", "channels", "pixels", "parts"])
def small_kernel(
    x,
    second,
    first,
    gamma,
    w,
    mean,
    image_mean,
    image_cov,
    batch_mean,
    batch_cov,
    layer,
    weights,
    grad_b,
    grad_c,
    grad_gamma,
    grad_beta,
    d_cov,
    d_mean,
    scalars,
    grad_mean_logits,
    grad_cov_logits,
    centre,
    channels,
    pixels,
    parts,
    per_pixel,
    SUMMED: tl.constexpr,
    FLOW: tl.constexpr,
    BATCH: tl.constexpr,
    KINDS: tl.constexpr,
    STEPS: tl.constexpr,
    G: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    LAST: tl.constexpr,
    CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """B (n, C, G) about the statistics' own mean, c (n, C) and each image's share of the gradients
    of γ and β (n, C).

    SUMMED: `second` and `first` are those of the batch, about μ̂ already. Without FLOW the
    statistics are constants, and there is no B nor c. Where statistics are mixed, B and c hold the
    gradient through the statistics of the image; ∂Σ̂ and ∂μ̂ are stored in `d_cov`, `d_mean` for
    those of the batch (MERGED), and FIELDS numbers in `scalars` for the weights. `per_pixel`: the
    weight of a pixel in its statistics.
    """
    program, tile, image = tile_of_program(channels, PACK * G)
    channel, exists, same, here, eye, at = diagonal(tile, channels, G, TILE, PACK)
    own = image * channels
    sums, total = sum_parts(
        second, first, image, parts, channels, channel, exists, here, at, G, TILE, CHUNK
    )
    level = tl.load(mean + own + channel, mask=exists, other=0.0)
    if not SUMMED:
        near = central(x, image, channel, exists, centre, channels, pixels, LAST)
        sums = tl.where(here, sums - total[:, None] * (level - near)[None, :], 0.0)
    root = tl.load(w + own * G + at, mask=here, other=0.0)
    if grad_gamma is not None:
        tl.store(
            grad_gamma + own + channel, tl.sum(tl.where(here, sums * root, 0.0), 1), mask=exists
        )
    if grad_beta is not None:
        tl.store(grad_beta + own + channel, total, mask=exists)
    if FLOW:
        if gamma is not None:
            scale = tl.load(gamma + channel, mask=exists, other=0.0).to(tl.float32)
            sums = sums * scale[:, None]
            total = total * scale
        g, good = symmetric_part(sums, here, same, eye)
        root_clean, good_root = symmetric_part(root, here, same, eye)
        d_level = -tl.sum(tl.where(here, root * total[:, None], 0.0), 0)  # −Aᵀ Σ dy
        d = whitened_gradient(root_clean, g, frobenius(root_clean, same), eye, STEPS, PRECISION)
        # Loaded a second time, so that the compiler does not merge it with the load above: during
        # the iteration there are no registers for W. The symmetric part is not taken: W was stored
        # symmetric, and another transpose would move the registers of four warps through shared
        # memory.
        w_reloaded = tl.where(
            good_root[:, None],
            tl.load(w + own * G + at, mask=here, other=0.0, cache_modifier=".ca"),
            0.0,
        )
        d = both_sides(w_reloaded, d, PRECISION)
        d = tl.where(here, tl.where((good & good_root)[:, None], d, float("nan")), 0.0)
        if KINDS > 0:
            in_mean, in_cov = (
                tl.load(weights + tl.arange(0, 8)),
                tl.load(weights + 8 + tl.arange(0, 8)),
            )
            many_mean, of_mean = of_means(in_mean, KINDS)
            many_full, full, many_own, of_own = of_covariances(in_cov, KINDS)
            if BATCH == ALONE:
                of_mean += many_mean
                full += many_full
                of_own += many_own
            own_level = tl.load(image_mean + own + channel, mask=exists, other=0.0)
            cov = tl.load(image_cov + own * G + at, mask=here, other=0.0)
            field = tl.arange(0, FIELDS)
            left = tl.where(field == 1, masked_sum(d_level * (own_level - near), exists), 0.0)
            left += tl.where(field == 4, masked_sum(d * cov, here), 0.0) + tl.where(
                field == 6, masked_sum(d * cov * eye, here), 0.0
            )
            if BATCH != ALONE:
                many = tl.load(batch_mean + channel, mask=exists, other=0.0)
                cov = tl.load(batch_cov + at, mask=here, other=0.0)
                left += tl.where(field == 0, masked_sum(d_level * (many - near), exists), 0.0)
                left += tl.where(field == 3, masked_sum(d * cov, here), 0.0) + tl.where(
                    field == 5, masked_sum(d * cov * eye, here), 0.0
                )
            if KINDS > 2:
                trace = masked_sum(d * eye, here)
                left += tl.where(
                    field == 2,
                    masked_sum(d_level * (tl.load(layer + 2 * image) - near), exists),
                    0.0,
                )
                left += tl.where(field == 7, trace * tl.load(layer + 2 * image + 1), 0.0)
                left += tl.where(field == 8, trace, 0.0) + tl.where(
                    field == 9, masked_sum(d_level, exists), 0.0
                )
            tl.store(scalars + program * FIELDS + field, left)
            if BATCH == MERGED:
                tl.store(d_cov + own * G + at, d, mask=here)
                tl.store(d_mean + own + channel, d_level, mask=exists)
            d = (full + of_own * eye) * d
            d_level = of_mean * d_level
        tl.store(grad_b + own * G + at, d * (2 * per_pixel), mask=here)
        tl.store(grad_c + own + channel, d_level * per_pixel, mask=exists)
    # BW and IW of one image are one statistic under two names: their weights do not matter
    if KINDS == 0 and grad_mean_logits is not None:
        k = tl.arange(0, 8)
        tl.store(grad_mean_logits + k, tl.zeros((8,), tl.float32), mask=(k < 2) & (program == 0))
        tl.store(grad_cov_logits + k, tl.zeros((8,), tl.float32), mask=(k < 2) & (program == 0))


@triton.jit(do_not_specialize=["images", "channels"])
def gather_kernel(
    d_cov,
    d_mean,
    weights,
    scalars,
    gammas,
    betas,
    grad_b,
    grad_c,
    grad_gamma,
    grad_beta,
    grad_mean_logits,
    grad_cov_logits,
    images,
    channels,
    per_pixel,
    BATCH: tl.constexpr,
    KINDS: tl.constexpr,
    G: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    CHUNK: tl.constexpr,
    VECTORS: tl.constexpr,
    LEFT: tl.constexpr,
):
    """Sums over images: B about the batch's mean (C, G) and c (C) through its statistics (MERGED),
    and the gradients of γ and β (C) and of the logits. CHUNK matrices, VECTORS vectors and the
    numbers of LEFT programs are fetched at once.
    """
    tile = tl.program_id(0)
    tiles = tl.cdiv(channels, PACK * G)
    channel, exists, _same, here, eye, at = diagonal(tile, channels, G, TILE, PACK)
    none = tile.to(tl.int64) * 0
    if BATCH == MERGED:
        d, d_level = sum_parts(
            d_cov, d_mean, none, images, channels, channel, exists, here, at, G, TILE, CHUNK
        )
        in_mean, in_cov = tl.load(weights + tl.arange(0, 8)), tl.load(weights + 8 + tl.arange(0, 8))
        many_mean, _of_mean = of_means(in_mean, KINDS)
        many_full, _full, many_own, _of_own = of_covariances(in_cov, KINDS)
        tl.store(grad_b + at, (many_full + many_own * eye) * d * (2 * per_pixel), mask=here)
        tl.store(grad_c + channel, many_mean * d_level * per_pixel, mask=exists)
    if gammas is not None:
        tl.store(
            grad_gamma + channel,
            over_images(gammas, images, channels, channel, exists, TILE, VECTORS),
            mask=exists,
        )
    if betas is not None:
        tl.store(
            grad_beta + channel,
            over_images(betas, images, channels, channel, exists, TILE, VECTORS),
            mask=exists,
        )
    if KINDS > 0:  # noqa: SIM102  known to the compiler, unlike the other
        if tile == 0:
            finish(
                scalars,
                weights,
                grad_mean_logits,
                grad_cov_logits,
                images * tiles,
                BATCH == ALONE,
                KINDS,
                LEFT,
            )


@triton.jit
def over_images(
    values, images, channels, channel, exists, TILE: tl.constexpr, VECTORS: tl.constexpr
):
    """The sum (TILE,) of `values` (N, C) over the images, in order, VECTORS at a time."""
    total = tl.zeros((TILE,), tl.float32)
    for turn in range(tl.cdiv(images, VECTORS)):
        image = turn * VECTORS + tl.arange(0, VECTORS)
        at = image.to(tl.int64)[:, None] * channels + channel[None, :]
        total += tl.sum(
            tl.load(values + at, mask=(image < images)[:, None] & exists[None, :], other=0.0), 0
        )
    return total
