"""Kernels over the images of a batch with one matrix for each group: its statistics, and the sums
of the backward pass. A program computes some rows of a matrix.
"""

import triton
import triton.language as tl

from swbench.norms.kernels.triton_kernels.indexing import central
from swbench.norms.kernels.triton_kernels.solve import update_running


@triton.jit
def slab_of_program(G: tl.constexpr, SLAB: tl.constexpr, SIDE: tl.constexpr):
    """A program's group, its rows (SLAB,) and all columns (SIDE,) of the group's matrix, and the
    masks of those that exist.
    """
    slabs = tl.cdiv(G, SLAB)
    row = (tl.program_id(0) % slabs) * SLAB + tl.arange(0, SLAB)
    column = tl.arange(0, SIDE)
    return tl.program_id(0) // slabs, row, column, row < G, column < G


@triton.jit
def images_of_step(
    x,
    first,
    turn,
    images,
    channel,
    real,
    centre,
    channels,
    pixels,
    parts,
    LAST: tl.constexpr,
    SIDE: tl.constexpr,
    IMAGES: tl.constexpr,
    FETCH: tl.constexpr,
):
    """For the IMAGES images of a `turn`: sums of `channel` over all parts and the shift, (IMAGES,
    SIDE), and the mask of existing entries.
    """
    image = (turn * IMAGES + tl.arange(0, IMAGES)).to(tl.int64)
    known = image < images
    here = known[:, None] & real[None, :]
    total = tl.zeros((IMAGES, SIDE), tl.float32)
    for step in range(tl.cdiv(parts, FETCH)):
        part = step * FETCH + tl.arange(0, FETCH)
        at = ((image[:, None] * parts + part[None, :]) * channels)[:, :, None] + channel[
            None, None, :
        ]
        known_part = (known[:, None] & (part < parts)[None, :])[:, :, None] & real[None, None, :]
        total += tl.sum(tl.load(first + at, mask=known_part, other=0.0), 1)
    return (
        total,
        central(x, image[:, None], channel[None, :], here, centre, channels, pixels, LAST),
        here,
    )


@triton.jit
def sum_matrices(
    second, at, inside, count, stride, SLAB: tl.constexpr, SIDE: tl.constexpr, CHUNK: tl.constexpr
):
    """The entries `at` (SLAB, SIDE) of matrices `stride` apart, added over `count` of them in
    order, CHUNK at a time.
    """
    sums = tl.zeros((SLAB, SIDE), tl.float32)
    for turn in range(tl.cdiv(count, CHUNK)):
        item = turn * CHUNK + tl.arange(0, CHUNK)
        here = (item < count)[:, None, None] & inside[None, :, :]
        sums += tl.sum(
            tl.load(
                second + (item.to(tl.int64) * stride)[:, None, None] + at[None, :, :],
                mask=here,
                other=0.0,
            ),
            0,
        )
    return sums


@triton.jit
def rows_of(values, row, column):
    """Columns `row` of `values` (IMAGES, SIDE): (IMAGES, SLAB)."""
    return tl.sum(tl.where(column[None, None, :] == row[None, :, None], values[:, None, :], 0.0), 2)


@triton.jit(do_not_specialize=["centre", "images", "channels", "pixels", "parts"])
def merge_kernel(
    x,
    second,
    first,
    running_mean,
    running_cov,
    batch_mean,
    batch_cov,
    centre,
    images,
    channels,
    pixels,
    parts,
    fresh,
    G: tl.constexpr,
    LAST: tl.constexpr,
    SLAB: tl.constexpr,
    SIDE: tl.constexpr,
    IMAGES: tl.constexpr,
    FETCH: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The batch's mean (C) and covariance (C, G): the mean of the images' covariances plus the
    covariance of their means. Updates the running ones.

    Means are taken relative to the first image's shift, so that no precision is lost where all are
    many standard deviations away.
    """
    group, row, column, inner, real = slab_of_program(G, SLAB, SIDE)
    channel, row_channel = group * G + column, group * G + row
    at, inside = row_channel[:, None] * G + column[None, :], inner[:, None] & real[None, :]
    sums = sum_matrices(second, at, inside, images * parts, channels * G, SLAB, SIDE, CHUNK)
    reference = central(x, group.to(tl.int64) * 0, channel, real, centre, channels, pixels, LAST)
    turns = tl.cdiv(images, IMAGES)
    mean = tl.zeros((SIDE,), tl.float32)
    for turn in range(turns):
        deviation, near, here = images_of_step(
            x,
            first,
            turn,
            images,
            channel,
            real,
            centre,
            channels,
            pixels,
            parts,
            LAST,
            SIDE,
            IMAGES,
            FETCH,
        )
        mean += tl.sum(tl.where(here, near - reference[None, :] + deviation / pixels, 0.0), 0)
    mean = mean / images
    cross = tl.zeros((SLAB, SIDE), tl.float32)
    for turn in range(turns):
        deviation, near, here = images_of_step(
            x,
            first,
            turn,
            images,
            channel,
            real,
            centre,
            channels,
            pixels,
            parts,
            LAST,
            SIDE,
            IMAGES,
            FETCH,
        )
        deviation = deviation / pixels
        centred = tl.where(here, near - reference[None, :] + deviation - mean[None, :], 0.0)
        cross += tl.sum(
            rows_of(centred, row, column)[:, :, None] * centred[:, None, :]
            - rows_of(deviation, row, column)[:, :, None] * deviation[:, None, :],
            0,
        )
    cov = (sums / pixels + cross) / images
    level = tl.sum(tl.where(column[None, :] == row[:, None], (reference + mean)[None, :], 0.0), 1)
    tl.store(batch_mean + row_channel, level, mask=inner)
    tl.store(batch_cov + at, cov, mask=inside)
    update_running(running_mean, row_channel, level, fresh, inner)
    update_running(running_cov, at, cov, fresh, inside)


@triton.jit(do_not_specialize=["centre", "images", "channels", "pixels", "parts"])
def total_kernel(
    x,
    second,
    first,
    mean,
    m,
    s,
    centre,
    images,
    channels,
    pixels,
    parts,
    G: tl.constexpr,
    LAST: tl.constexpr,
    SLAB: tl.constexpr,
    SIDE: tl.constexpr,
    IMAGES: tl.constexpr,
    FETCH: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """Σ dy (x − μ̂)ᵀ into `m` (C, G) and Σ dy into `s` (C), over all images, which share μ̂ =
    `mean` (C).
    """
    group, row, column, inner, real = slab_of_program(G, SLAB, SIDE)
    channel, row_channel = group * G + column, group * G + row
    at, inside = row_channel[:, None] * G + column[None, :], inner[:, None] & real[None, :]
    sums = sum_matrices(second, at, inside, images * parts, channels * G, SLAB, SIDE, CHUNK)
    level = tl.load(mean + channel, mask=real, other=0.0)
    total = tl.zeros((SLAB,), tl.float32)
    for turn in range(tl.cdiv(images, IMAGES)):
        own, near, here = images_of_step(
            x,
            first,
            turn,
            images,
            channel,
            real,
            centre,
            channels,
            pixels,
            parts,
            LAST,
            SIDE,
            IMAGES,
            FETCH,
        )
        own = rows_of(own, row, column)
        deviation = tl.where(here, level[None, :] - near, 0.0)
        sums -= tl.sum(own[:, :, None] * deviation[:, None, :], 0)
        total += tl.sum(own, 0)
    tl.store(m + at, sums, mask=inside)
    tl.store(s + row_channel, total, mask=inner)
