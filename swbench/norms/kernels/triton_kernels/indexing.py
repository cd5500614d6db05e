"""Offsets of the rows and pixels of a program's tiles. Blocks are (stack, rows, columns), one
matrix a warp.
"""

import triton
import triton.language as tl


@triton.jit
def product(a, b, precision: tl.constexpr):
    """A B of every matrix of a stack, in `precision` `ieee` or `tf32x3`; the default of `tl.dot` is
    a single pass of TF32.

    A product of one matrix is taken in two dimensions, because in three each warp would repeat all
    of it.
    """
    if a.shape[0] == 1:
        result = tl.dot(
            tl.reshape(a, (a.shape[1], a.shape[2])),
            tl.reshape(b, (b.shape[1], b.shape[2])),
            input_precision=precision,
        )
        return tl.reshape(result, (1, a.shape[1], b.shape[2]))
    return tl.dot(a, b, input_precision=precision)


@triton.jit
def share_of_program(channels, runs, ROWS: tl.constexpr, STACK: tl.constexpr, LAST: tl.constexpr):
    """The bundle of tiles, the run of pixels (of `runs`) and the image (int64) of this program, in
    an order in which neighbouring programs read neighbouring memory.
    """
    program = tl.program_id(0)
    bundles = tl.cdiv(channels, STACK * ROWS if LAST else ROWS)
    if LAST:
        bundle, run = program % bundles, (program // bundles) % runs
    else:
        run, bundle = program % runs, (program // runs) % bundles
    return bundle, run, (program // (bundles * runs)).to(tl.int64)


@triton.jit
def rows_of_bundle(
    bundle,
    channels,
    ROWS: tl.constexpr,
    TILE: tl.constexpr,
    STACK: tl.constexpr,
    LAST: tl.constexpr,
):
    """For the tiles of `bundle`: its first channel, each row's channel counted from there, (STACK
    or 1, TILE), and which rows exist.
    """
    row = tl.arange(0, TILE)
    if LAST:
        first = bundle * (STACK * ROWS)
        local = (tl.arange(0, STACK) * ROWS)[:, None] + row[None, :]
    else:
        first = bundle * ROWS
        local = row[None, :]
    return first, local, (row < ROWS)[None, :] & (first + local < channels)


@triton.jit
def pixels_of_block(WIDTH: tl.constexpr, STACK: tl.constexpr, LAST: tl.constexpr):
    """The pixels of a block counted from its first, (STACK or 1, 1, WIDTH)."""
    pixel = tl.arange(0, WIDTH)[None, None, :]
    if not LAST:
        pixel = (tl.arange(0, STACK) * WIDTH)[:, None, None] + pixel
    return pixel


@triton.jit
def offsets(image, start_channel, row, column, channels, pixels, LAST: tl.constexpr):
    """The offset of the first channel of an image's bundle in the tensor, and offsets from there,
    (stack, TILE, columns).
    """
    if LAST:
        base = image * channels * pixels + start_channel
        offset = row[:, :, None] + column * channels
    else:
        base = (image * channels + start_channel) * pixels
        offset = row[:, :, None] * pixels + column
    return base, offset


@triton.jit
def entries(channel, exists, G: tl.constexpr, TILE: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Offsets into (C, G) of the matrices on the diagonals of tiles, (stack, TILE, TILE), and the
    mask of their entries. `channel` (stack, TILE).
    """
    row = tl.arange(0, TILE)
    here = (
        (row[:, None] // G == row[None, :] // G)[None, :, :]
        & exists[:, :, None]
        & exists[:, None, :]
    )
    if TRANSPOSED:
        return channel[:, None, :] * G + (row % G)[None, :, None], here
    return channel[:, :, None] * G + (row % G)[None, None, :], here


@triton.jit
def tile_of_program(channels, ROWS: tl.constexpr):
    """The number of this program, its tile and its image (int64), where each program has one tile
    of one image.
    """
    tiles = tl.cdiv(channels, ROWS)
    program = tl.program_id(0)
    return program, program % tiles, (program // tiles).to(tl.int64)


@triton.jit
def diagonal(tile, channels, G: tl.constexpr, TILE: tl.constexpr, PACK: tl.constexpr):
    """One tile of matrices (C, G): each row's channel, which rows exist, the masks of one matrix's
    entries and of those that exist, I, and offsets.
    """
    row = tl.arange(0, TILE)
    channel = tile * (PACK * G) + row
    exists = (row < PACK * G) & (channel < channels)
    same = row[:, None] // G == row[None, :] // G
    here = same & exists[:, None]
    eye = (row[:, None] == row[None, :]).to(tl.float32)
    return channel, exists, same, here, eye, channel[:, None] * G + (row % G)[None, :]


@triton.jit
def central(x, image, channel, exists, centre, channels, pixels, LAST: tl.constexpr):
    """The shift of a layer: the pixel `centre` of `channel` in `image` (int64), in float32."""
    if LAST:
        at = (image * pixels + centre) * channels + channel
    else:
        at = (image * channels + channel) * pixels + centre
    return tl.load(x + at, mask=exists, other=0.0).to(tl.float32)


@triton.jit
def sum_parts(
    second,
    first,
    image,
    parts,
    channels,
    channel,
    exists,
    here,
    at,
    G: tl.constexpr,
    TILE: tl.constexpr,
    CHUNK: tl.constexpr,
):
    """The sums of one image for a tile from its parts, in order: (TILE, TILE) and (TILE,).

    CHUNK parts are fetched at once, because one part alone takes as long to arrive. A tile that is
    one matrix is contiguous and is read as a flat vector: each thread then adds its own entries
    over the parts. In three dimensions the compiler would spread the parts across threads.
    """
    FULL_TILE: tl.constexpr = G == TILE
    entries_of_tile = tl.arange(0, TILE * TILE)
    begin = tl.min(channel, 0) * G
    flat = tl.zeros((TILE * TILE,), tl.float32)
    sums = tl.zeros((TILE, TILE), tl.float32)
    total = tl.zeros((TILE,), tl.float32)
    for turn in range(tl.cdiv(parts, CHUNK)):
        part = turn * CHUNK + tl.arange(0, CHUNK)
        line = (image * parts + part) * channels
        known = part < parts
        if FULL_TILE:
            flat += tl.sum(
                tl.load(
                    second + begin + line[:, None] * G + entries_of_tile[None, :],
                    mask=known[:, None],
                    other=0.0,
                ),
                0,
            )
        else:
            sums += tl.sum(
                tl.load(
                    second + line[:, None, None] * G + at[None, :, :],
                    mask=known[:, None, None] & here[None, :, :],
                    other=0.0,
                ),
                0,
            )
        total += tl.sum(
            tl.load(
                first + line[:, None] + channel[None, :],
                mask=known[:, None] & exists[None, :],
                other=0.0,
            ),
            0,
        )
    if FULL_TILE:
        sums = tl.reshape(flat, (TILE, TILE))
    return sums, total
