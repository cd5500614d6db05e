"""The passes that map every pixel: each tensor is read once and the result written once."""

import triton
import triton.language as tl

from swbench.norms.kernels.triton_kernels.indexing import (
    entries,
    offsets,
    pixels_of_block,
    product,
    rows_of_bundle,
    share_of_program,
)
from swbench.norms.kernels.triton_kernels.mixture import FIELDS, finish

UNMIXED = {"ALONE": False, "KINDS": 0, "TILES": 1}
"""Compile-time constants of a map with A, B and c alone."""


@triton.jit
def through_layer(
    layer,
    weights,
    scalars,
    image,
    channels,
    pixels,
    ROWS: tl.constexpr,
    KINDS: tl.constexpr,
    TILES: tl.constexpr,
):
    """The contribution of an image's layer statistic to the diagonal of B and to c, and the mean
    that this B is taken about.

    With v the gradient of a channel's share of the variance, dx takes (2 v (x − the layer's mean) +
    the mean of ω ∂μ̂ over channels) / pixels. TILES: a power of two of at least the tiles of an
    image.
    """
    tiles = tl.cdiv(channels, ROWS)
    tile = tl.arange(0, TILES)
    at = (image * tiles + tile) * FIELDS
    trace = tl.sum(tl.load(scalars + at + 8, mask=tile < tiles, other=0.0), 0)
    total = tl.sum(tl.load(scalars + at + 9, mask=tile < tiles, other=0.0), 0)
    d_var = trace * tl.load(weights + 8 + KINDS - 1) / channels
    return (
        2 * d_var / pixels,
        tl.load(weights + KINDS - 1) * total / channels / pixels,
        tl.load(layer + 2 * image),
    )


@triton.jit(do_not_specialize=["channels", "pixels", "each"])
def map_kernel(
    source,
    x,
    out,
    a,
    b,
    c,
    near,
    batch_b,
    batch_c,
    batch_mean,
    layer,
    weights,
    scalars,
    grad_mean_logits,
    grad_cov_logits,
    channels,
    pixels,
    each,
    TRANSPOSED: tl.constexpr,
    ALONE: tl.constexpr,
    KINDS: tl.constexpr,
    TILES: tl.constexpr,
    G: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    STACK: tl.constexpr,
    WIDTH: tl.constexpr,
    LAST: tl.constexpr,
    CHANNEL_UNIT: tl.constexpr,
    PIXEL_UNIT: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """`out` = A `source` + B (`x` − `near`) + c, or A (`source` − `near`) + c without `x` and `b`,
    at one block of pixels. `near` and `c` may be None.

    Values far from zero are centred before they are multiplied, because products in three passes of
    TF32 are a few times less exact than float32. `a`, `b` (N, C, G), `c`, `near` (N, C);
    with `each` 0 instead of 1 all images share theirs. TRANSPOSED: A is the transpose of what `a`
    holds.

    Through the batch's statistics B' (x − μ') + c' is added, if `batch_b` (C, G), `batch_mean` and
    `batch_c` (C) are given; through a layer statistic the gradient of its mean and variance, if
    `layer` is given, from the numbers that `small_kernel` stored. The first program finishes the
    gradients of the logits, if these are given. ALONE: the batch is a single image.
    """
    ROWS: tl.constexpr = PACK * G
    BLOCK: tl.constexpr = WIDTH if LAST else STACK * WIDTH
    channels = channels * CHANNEL_UNIT
    pixels = pixels * PIXEL_UNIT
    bundle, block, image = share_of_program(channels, tl.cdiv(pixels, BLOCK), ROWS, STACK, LAST)
    start_channel, row, exists = rows_of_bundle(bundle, channels, ROWS, TILE, STACK, LAST)
    column = pixels_of_block(WIDTH, STACK, LAST)
    base, offset = offsets(image, start_channel, row, column, channels, pixels, LAST)
    at = base + block.to(tl.int64) * BLOCK * (channels if LAST else 1)
    here = exists[:, :, None] & (block * BLOCK + column < pixels)
    left = tl.load(source + at + offset, mask=here, other=0.0).to(tl.float32)
    if near is not None:
        middle = tl.load(
            near + image * each * channels + start_channel + row, mask=exists, other=0.0
        )[:, :, None]
        if x is None:
            left -= middle
    place, matrix = entries(row, exists, G, TILE, TRANSPOSED)
    place = place + (image * each * channels + start_channel) * G
    factor = tl.broadcast_to(tl.load(a + place, mask=matrix, other=0.0), (STACK, TILE, TILE))
    if x is not None:
        right = tl.load(x + at + offset, mask=here, other=0.0).to(tl.float32)
        if near is not None:
            right -= middle
        place, matrix = entries(row, exists, G, TILE, False)
        place = place + (image * each * channels + start_channel) * G
        other = tl.load(b + place, mask=matrix, other=0.0)
        if batch_b is not None:
            shared, _ = entries(row, exists, G, TILE, False)
            many = tl.load(batch_b + start_channel * G + shared, mask=matrix, other=0.0)
            deviation = tl.load(
                near + image * each * channels + start_channel + row, mask=exists, other=0.0
            )
            deviation -= tl.load(batch_mean + start_channel + row, mask=exists, other=0.0)
            beside = tl.sum(tl.where(matrix, many * deviation[:, None, :], 0.0), 2)[:, :, None]
            other += many
        if layer is not None:
            slope, level, layer_mean = through_layer(
                layer, weights, scalars, image, channels, pixels, ROWS, KINDS, TILES
            )
            diagonal = tl.arange(0, TILE)[:, None] == tl.arange(0, TILE)[None, :]
            other += tl.where(matrix & diagonal[None, :, :], slope, 0.0)
        other = tl.broadcast_to(other, (STACK, TILE, TILE))
    # 0 · NaN would carry the NaN of one group into its neighbours in the tile; that of the channel
    # itself is restored below
    if PACK > 1:
        clean = tl.abs(left) < float("inf")
        value = product(factor, tl.where(clean, left, 0.0), PRECISION) + tl.where(
            clean, 0.0, float("nan")
        )
    else:
        value = product(factor, left, PRECISION)
    if x is not None:
        if PACK > 1:
            clean = tl.abs(right) < float("inf")
            value += product(other, tl.where(clean, right, 0.0), PRECISION) + tl.where(
                clean, 0.0, float("nan")
            )
        else:
            value += product(other, right, PRECISION)
    if c is not None:
        value += tl.load(c + image * each * channels + start_channel + row, mask=exists, other=0.0)[
            :, :, None
        ]
    if batch_c is not None:
        value += beside + tl.load(batch_c + start_channel + row, mask=exists, other=0.0)[:, :, None]
    if layer is not None:
        value += slope * (middle - layer_mean) + level
    tl.store(out + at + offset, value.to(out.dtype.element_ty), mask=here)
    if grad_mean_logits is not None:  # noqa: SIM102  known to the compiler, unlike the other
        if tl.program_id(0) == 0:
            finish(
                scalars,
                weights,
                grad_mean_logits,
                grad_cov_logits,
                tl.cdiv(channels, ROWS),
                ALONE,
                KINDS,
                TILES,
            )
