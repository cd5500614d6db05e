"""From sums to A and μ̂ in one kernel: parts added, statistics mixed, Σ^(-1/2) in registers. One
program for each tile of matrices.
"""

import triton
import triton.language as tl

from swbench.norms.kernels.triton_kernels.indexing import (
    central,
    diagonal,
    sum_parts,
    tile_of_program,
)
from swbench.norms.kernels.triton_kernels.mixture import of_covariances, of_means, pick, softmax
from swbench.solvers.triton_kernels.polar import inverse_root
from swbench.solvers.triton_kernels.tile import frobenius, symmetric_part

NONE, ALONE, MERGED, RUNNING = (tl.constexpr(i) for i in range(4))
"""Kinds of batch statistics: unused, those of a single image, merged by an earlier kernel, or the
running ones.
"""


@triton.jit
def update_running(pointer, at, value, fresh, mask):
    """Update a running statistic with `value`, whose weight is `fresh`."""
    old = tl.load(pointer + at, mask=mask, other=0.0).to(tl.float32)
    tl.store(pointer + at, (old + fresh * (value - old)).to(pointer.dtype.element_ty), mask=mask)


@triton.jit
def layer_moments(
    x,
    second,
    first,
    image,
    centre,
    channels,
    pixels,
    parts,
    G: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Mean and variance of an image over all its channels and pixels. WIDE: a power of two of at
    least C.
    """
    channel = tl.arange(0, WIDE)
    exists = channel < channels
    total = tl.zeros((WIDE,), tl.float32)
    squares = tl.zeros((WIDE,), tl.float32)
    for turn in range(tl.cdiv(parts, CHUNK)):
        part = turn * CHUNK + tl.arange(0, CHUNK)
        line = ((image * parts + part) * channels)[:, None] + channel[None, :]
        here = (part < parts)[:, None] & exists[None, :]
        total += tl.sum(tl.load(first + line, mask=here, other=0.0), 0)
        squares += tl.sum(
            tl.load(second + line * G + (channel % G)[None, :], mask=here, other=0.0), 0
        )
    total = total / pixels
    level = central(x, image, channel, exists, centre, channels, pixels, LAST) + total
    mean = tl.sum(tl.where(exists, level, 0.0), 0) / channels
    deviation = tl.where(exists, level - mean, 0.0)
    return mean, tl.sum(
        deviation * deviation + tl.where(exists, squares / pixels - total * total, 0.0), 0
    ) / channels


@triton.jit(do_not_specialize=["centre", "channels", "pixels", "parts"])
def solve_kernel(
    x,
    second,
    first,
    running_mean,
    running_cov,
    gamma,
    beta,
    mean_logits,
    cov_logits,
    a,
    offset,
    w,
    mean,
    image_mean,
    image_cov,
    batch_mean,
    batch_cov,
    layer,
    weights,
    centre,
    channels,
    pixels,
    parts,
    eps,
    fresh,
    IMAGE: tl.constexpr,
    BATCH: tl.constexpr,
    KINDS: tl.constexpr,
    STEPS: tl.constexpr,
    G: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    CHUNK: tl.constexpr,
    LAYER_CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A, W (n, C, G), β = `offset` and μ̂ (n, C), for y = A (x − μ̂) + β, of every image, or of the
    batch where no image has matrices of its own.

    Saves for backward, where statistics are mixed: those of the image and of the batch, the layer's
    mean and variance (N, 2), the weights (2, 8). ALONE updates the running statistics.
    """
    program, tile, image = tile_of_program(channels, PACK * G)
    channel, exists, same, here, eye, at = diagonal(tile, channels, G, TILE, PACK)
    own = image * channels
    if IMAGE:
        sums, total = sum_parts(
            second, first, image, parts, channels, channel, exists, here, at, G, TILE, CHUNK
        )
        total = total / pixels
        mu = central(x, image, channel, exists, centre, channels, pixels, LAST) + total
        cov = tl.where(here, sums / pixels - total[:, None] * total[None, :], 0.0)
        if KINDS > 0:
            tl.store(image_mean + own + channel, mu, mask=exists)
            tl.store(image_cov + own * G + at, cov, mask=here)
        if BATCH == ALONE:
            update_running(running_mean, channel, mu, fresh, exists)
            update_running(running_cov, at, cov, fresh, here)
    if BATCH == MERGED:
        many_mu = tl.load(batch_mean + channel, mask=exists, other=0.0)
        many_cov = tl.load(batch_cov + at, mask=here, other=0.0)
    if BATCH == RUNNING:
        many_mu = tl.load(running_mean + channel, mask=exists, other=0.0).to(tl.float32)
        many_cov = tl.load(running_cov + at, mask=here, other=0.0).to(tl.float32)
        # copies, because a training call may update the running statistics before backward
        tl.store(batch_mean + channel, many_mu, mask=exists & (image == 0))
        tl.store(batch_cov + at, many_cov, mask=here & (image == 0))
    if KINDS > 0:
        in_mean, in_cov = softmax(mean_logits, KINDS), softmax(cov_logits, KINDS)
        k = tl.arange(0, 8)
        tl.store(weights + k, in_mean, mask=(k < 8) & (program == 0))
        tl.store(weights + 8 + k, in_cov, mask=(k < 8) & (program == 0))
        many_mean, of_mean = of_means(in_mean, KINDS)
        many_full, full, many_own, of_own = of_covariances(in_cov, KINDS)
        if BATCH == ALONE:
            mu = (of_mean + many_mean) * mu
            cov = (full + many_full + (of_own + many_own) * eye) * cov
        else:
            mu = of_mean * mu + many_mean * many_mu
            cov = (full + of_own * eye) * cov + (many_full + many_own * eye) * many_cov
        if KINDS > 2:
            layer_mean, variance = layer_moments(
                x, second, first, image, centre, channels, pixels, parts, G, LAST, WIDE, LAYER_CHUNK
            )
            tl.store(layer + 2 * image, layer_mean, mask=tile == 0)
            tl.store(layer + 2 * image + 1, variance, mask=tile == 0)
            mu += pick(in_mean, KINDS - 1) * layer_mean
            cov += pick(in_cov, KINDS - 1) * variance * eye
    if not IMAGE:
        mu, cov = many_mu, many_cov
    s, good = symmetric_part(tl.where(here, cov + eps * eye, 0.0), here, same, eye)
    root = inverse_root(s, frobenius(s, same), eye, STEPS, PRECISION)
    root = tl.where(here, tl.where(good[:, None], root, float("nan")), 0.0)
    scaled = root
    if gamma is not None:
        scaled = tl.load(gamma + channel, mask=exists, other=0.0).to(tl.float32)[:, None] * root
    level = tl.zeros((TILE,), tl.float32)
    if beta is not None:
        level = tl.load(beta + channel, mask=exists, other=0.0).to(tl.float32)
    tl.store(a + own * G + at, scaled, mask=here)
    tl.store(w + own * G + at, root, mask=here)
    tl.store(offset + own + channel, level, mask=exists)
    tl.store(mean + own + channel, mu, mask=exists)
