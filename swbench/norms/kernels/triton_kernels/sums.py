"""The passes that sum over pixels: each tensor is read once, every program stores a part, and the
kernels that read the parts add them in order.
"""

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


@triton.jit(do_not_specialize=["centre", "channels", "pixels", "parts", "blocks"])
def sums_kernel(
    left,
    x,
    shift,
    second,
    first,
    centre,
    channels,
    pixels,
    parts,
    blocks,
    PAIR: tl.constexpr,
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
    """Σ l (x − s)ᵀ into `second` (N, parts, C, G) and Σ l into `first` (N, parts, C), where l is
    `left`, or x − s unless PAIR.

    `shift` (N, C), or None for x at its pixel `centre`. `blocks`: those of a part. `channels` and
    `pixels` are given in their units, which tells the compiler what divides them.
    """
    ROWS: tl.constexpr = PACK * G
    BLOCK: tl.constexpr = WIDTH if LAST else STACK * WIDTH
    channels = channels * CHANNEL_UNIT
    pixels = pixels * PIXEL_UNIT
    bundle, part, image = share_of_program(channels, parts, ROWS, STACK, LAST)
    start_channel, row, exists = rows_of_bundle(bundle, channels, ROWS, TILE, STACK, LAST)
    column = pixels_of_block(WIDTH, STACK, LAST)
    base, offset = offsets(image, start_channel, row, column, channels, pixels, LAST)
    if shift is None:
        middle = row + centre.to(tl.int64) * channels if LAST else row * pixels + centre
        near = tl.load(x + base + middle, mask=exists, other=0.0).to(tl.float32)[:, :, None]
    else:
        near = tl.load(shift + image * channels + start_channel + row, mask=exists, other=0.0)[
            :, :, None
        ]
    sums = tl.zeros((STACK, TILE, TILE), tl.float32)
    total = tl.zeros((STACK, TILE, WIDTH), tl.float32)
    for block in range(blocks):
        begin = (part * blocks + block) * BLOCK
        here = exists[:, :, None] & (column + begin < pixels)
        at = base + begin.to(tl.int64) * (channels if LAST else 1)
        deviation = tl.load(x + at + offset, mask=here, other=0.0).to(tl.float32)
        deviation = tl.where(here, deviation - near, 0.0)
        if PAIR:
            factor = tl.load(left + at + offset, mask=here, other=0.0).to(tl.float32)
        else:
            factor = deviation
        sums += product(factor, tl.permute(deviation, (0, 2, 1)), PRECISION)
        total += factor
    total = tl.sum(total, 2)
    if not LAST:  # the stack is runs of pixels of the same channels
        sums = tl.sum(sums, 0)[None, :, :]
        total = tl.sum(total, 0)[None, :]
    out = (image * parts + part) * channels + start_channel
    at, here = entries(row, exists, G, TILE, False)
    tl.store(second + out * G + at, sums, mask=here)
    tl.store(first + out + row, total, mask=exists)
