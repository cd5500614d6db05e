"""Where a batch of several images is one matrix a group: its statistics, and the sums of the way back. A program makes some rows of a matrix."""

import triton
import triton.language as tl

from swbench.norms.kernels.triton_kernels.place import central
from swbench.norms.kernels.triton_kernels.solve import move


@triton.jit
def each_image(first, image, known, channel, real, channels, parts, SIDE: tl.constexpr, IMAGES: tl.constexpr, FETCH: tl.constexpr, ROUNDS: tl.constexpr):
    """Sums (IMAGES, SIDE) of `channel` over the parts of each `image` (IMAGES,)."""
    total = tl.zeros((IMAGES, SIDE), tl.float32)
    for turn in range(ROUNDS):
        part = turn * FETCH + tl.arange(0, FETCH)
        at = ((image[:, None] * parts + part[None, :]) * channels)[:, :, None] + channel[None, None, :]
        here = (known[:, None] & (part < parts)[None, :])[:, :, None] & real[None, None, :]
        total += tl.sum(tl.load(first + at, mask=here, other=0.0), 1)
    return total


@triton.jit
def all_parts(second, group, row, column, count, channels, G: tl.constexpr, SLAB: tl.constexpr, SIDE: tl.constexpr, CHUNK: tl.constexpr, ROUNDS: tl.constexpr):
    """The rows `row` (SLAB,) of a group's matrix added over all `count` parts of all images, in order."""
    sums = tl.zeros((SLAB, SIDE), tl.float32)
    inside = (row < G)[:, None] & (column < G)[None, :]
    at = (group * G + row)[:, None] * G + column[None, :]
    for turn in range(ROUNDS):
        item = turn * CHUNK + tl.arange(0, CHUNK)
        line = item.to(tl.int64) * channels * G
        sums += tl.sum(tl.load(second + line[:, None, None] + at[None, :, :], mask=(item < count)[:, None, None] & inside[None, :, :], other=0.0), 0)
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
    IMAGE_ROUNDS: tl.constexpr,
    FETCH: tl.constexpr,
    FETCH_ROUNDS: tl.constexpr,
    CHUNK: tl.constexpr,
    ROUNDS: tl.constexpr,
):
    """The batch's mean (C) and covariance (C, G): the mean of the images' covariances plus the covariance of their means; running ones move.

    Means are counted from the first image's shift, so that nothing is lost where all are many standard deviations away.
    """
    slabs = tl.cdiv(G, SLAB)
    group, row = tl.program_id(0) // slabs, (tl.program_id(0) % slabs) * SLAB + tl.arange(0, SLAB)
    column = tl.arange(0, SIDE)
    real, channel = column < G, group * G + column
    sums = all_parts(second, group, row, column, images * parts, channels, G, SLAB, SIDE, CHUNK, ROUNDS)
    reference = central(x, group.to(tl.int64) * 0, channel, real, centre, channels, pixels, LAST)
    mean = tl.zeros((SIDE,), tl.float32)
    for turn in range(IMAGE_ROUNDS):
        image = (turn * IMAGES + tl.arange(0, IMAGES)).to(tl.int64)
        known = image < images
        here = known[:, None] & real[None, :]
        apart = each_image(first, image, known, channel, real, channels, parts, SIDE, IMAGES, FETCH, FETCH_ROUNDS) / pixels
        near = central(x, image[:, None], channel[None, :], here, centre, channels, pixels, LAST)
        mean += tl.sum(tl.where(here, near - reference[None, :] + apart, 0.0), 0)
    mean = mean / images
    cross = tl.zeros((SLAB, SIDE), tl.float32)
    for turn in range(IMAGE_ROUNDS):
        image = (turn * IMAGES + tl.arange(0, IMAGES)).to(tl.int64)
        known = image < images
        here = known[:, None] & real[None, :]
        apart = each_image(first, image, known, channel, real, channels, parts, SIDE, IMAGES, FETCH, FETCH_ROUNDS) / pixels
        near = central(x, image[:, None], channel[None, :], here, centre, channels, pixels, LAST)
        away = tl.where(here, near - reference[None, :] + apart - mean[None, :], 0.0)
        cross += tl.sum(rows_of(away, row, column)[:, :, None] * away[:, None, :] - rows_of(apart, row, column)[:, :, None] * apart[:, None, :], 0)
    cov = (sums / pixels + cross) / images
    level = tl.sum(tl.where(column[None, :] == row[:, None], (reference + mean)[None, :], 0.0), 1)
    there = group * G + row
    inside = (row < G)[:, None] & real[None, :]
    at = there[:, None] * G + column[None, :]
    tl.store(batch_mean + there, level, mask=row < G)
    tl.store(batch_cov + at, cov, mask=inside)
    move(running_mean, there, level, fresh, row < G)
    move(running_cov, at, cov, fresh, inside)


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
    IMAGE_ROUNDS: tl.constexpr,
    FETCH: tl.constexpr,
    FETCH_ROUNDS: tl.constexpr,
    CHUNK: tl.constexpr,
    ROUNDS: tl.constexpr,
):
    """Σ dy (x − μ̂)ᵀ into `m` (C, G) and Σ dy into `s` (C), over all images, which share μ̂ = `mean` (C)."""
    slabs = tl.cdiv(G, SLAB)
    group, row = tl.program_id(0) // slabs, (tl.program_id(0) % slabs) * SLAB + tl.arange(0, SLAB)
    column = tl.arange(0, SIDE)
    real, channel = column < G, group * G + column
    sums = all_parts(second, group, row, column, images * parts, channels, G, SLAB, SIDE, CHUNK, ROUNDS)
    level = tl.load(mean + channel, mask=real, other=0.0)
    total = tl.zeros((SLAB,), tl.float32)
    for turn in range(IMAGE_ROUNDS):
        image = (turn * IMAGES + tl.arange(0, IMAGES)).to(tl.int64)
        known = image < images
        here = known[:, None] & real[None, :]
        own = rows_of(each_image(first, image, known, channel, real, channels, parts, SIDE, IMAGES, FETCH, FETCH_ROUNDS), row, column)
        apart = tl.where(here, level[None, :] - central(x, image[:, None], channel[None, :], here, centre, channels, pixels, LAST), 0.0)
        sums -= tl.sum(own[:, :, None] * apart[:, None, :], 0)
        total += tl.sum(own, 0)
    there = group * G + row
    tl.store(m + there[:, None] * G + column[None, :], sums, mask=(row < G)[:, None] & real[None, :])
    tl.store(s + there, total, mask=row < G)
