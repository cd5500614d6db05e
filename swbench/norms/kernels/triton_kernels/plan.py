"""The division of a pass into programs: a pure function of the shape and the number of
multiprocessors, so nothing is tuned at run time.
"""

from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from swbench.solvers.triton_kernels import tile_of

RESIDENT = 4
"""Programs of four warps that a multiprocessor holds at 128 registers a thread (65536 registers): a
heuristic for when the chip is full.
"""
MOST_PARTS = 32
"""The most parts of one image: one program a tile reads and sums all of them."""
WARPS = 4
WIDTHS = {16: 64, 32: 64, 64: 16}
"""The most pixels of a tile, by its rows: with more, the factors of a tile of 64 do not fit the
registers of a map.
"""
ALL = 255
"""The most registers that a thread can have."""
FETCHED, FETCHED_BESIDE = 64, 16
"""Registers of each thread for numbers that are fetched at once to be added up; the second number
holds beside products of tiles above 16, which need the other registers.
"""
SUM, MAP, MAP_TWO = 2048, 4096, 2048
"""Elements of a tensor that a program of four warps holds at once in a sum, in a map of one tensor
and in one of two.

Taken from the compiler's registers for compute capability 9.0 (docs/gpu-kernels.md): the most with
which nothing spills and four programs fit a multiprocessor at G = 16.
"""
MAP_REGISTERS = 128
"""Registers that a thread of a map of one tensor in channels_last may have in tiles of 16; left to
itself the compiler takes 72 and spills one.

The limit does not hold where groups share the tile: there the compiler takes up to 210, and would
spill with fewer.
"""

SUM_REGISTERS = 128
"""Registers that a thread of a sum of contiguous float32 in tiles of 16 may have: left to itself
the compiler takes up to 180, most where pixels are read one by one. Then three programs fit a
multiprocessor, and not `RESIDENT`. There is no limit in bfloat16 and in channels_last, where the
compiler would spill with it on capability 8.0.
"""

PRECISION = "tf32x3"
"""The precision of products in the passes: three passes of TF32 on tensor cores."""
INTERPRETED_MULTIPROCESSORS = 4
"""Multiprocessors assumed for the interpreter: few, because each program costs it milliseconds."""


@cache
def multiprocessors(device: torch.device) -> int:
    """Multiprocessors of `device`; a few for the interpreter's."""
    return (
        torch.cuda.get_device_properties(device).multi_processor_count
        if device.type == "cuda"
        else INTERPRETED_MULTIPROCESSORS
    )


class Plan(NamedTuple):
    """The division of one tensor (N, C, H, W). A tile holds `rows` = pack·G channels; a program
    works on `stack` tiles side by side.

    In a contiguous tensor the stack is `stack` runs of pixels of the same channels, in
    channels_last `stack` tiles of channels at the same pixels: each warp multiplies one matrix of
    the stack, and what a program reads is contiguous. A tile of 64 is alone, with four warps to
    itself.
    """

    images: int
    channels: int
    pixels: int
    group: int
    tile: int
    """Rows of a tile, a power of two of 16 or more."""
    pack: int
    """Groups in a tile."""
    last: bool
    """Whether the tensor is channels_last."""
    bundles: int
    """Programs for the channels of an image."""
    stack: int
    warps: int
    width: int
    """Pixels of one tile."""
    block: int
    """Pixels a program advances by."""
    parts: int
    """Programs for the pixels of an image in a sum; each stores one part."""
    blocks: int
    """Blocks of one such part."""
    pixel_unit: int
    """The largest power of two, 16 at most, that divides the pixels: what the compiler may assume
    of addresses.
    """
    registers: int | None
    """Registers a thread of a whole layer's pass may have; None leaves it to the compiler."""
    channel_unit: int
    """As `pixel_unit`, for the channels."""

    @property
    def sum_programs(self) -> int:
        """Programs of a pass that adds up."""
        return self.images * self.bundles * self.parts

    @property
    def map_programs(self) -> int:
        """Programs of a pass that maps every pixel: one a block."""
        return self.images * self.bundles * -(-self.pixels // self.block)

    @property
    def tiles(self) -> int:
        """Tiles that hold all groups."""
        return -(-self.channels // (self.pack * self.group))


def reachable(pixels: int, group: int) -> bool:
    """Whether offsets within the rows of a tile fit 32 bits, as the kernels compute them: up to 33
    million pixels an image at G > 32.
    """
    return tile_of(group)[0] * pixels < 2**31


def _unit(number: int) -> int:
    return min(16, number & -number)


def power(number: int) -> int:
    """The smallest power of two that is no less than `number`."""
    return 1 << (number - 1).bit_length()


def fetched(entries: int, warps: int, registers: int = FETCHED) -> int:
    """The number of matrices of `entries` that a program fetches at once."""
    return max(1, registers * 32 * warps // entries)


@lru_cache(maxsize=4096)
def plan_of(
    images: int,
    channels: int,
    pixels: int,
    group: int,
    last: bool,
    multiprocessors: int,
    elements: int,
) -> Plan:
    """The plan of a shape for programs that hold `elements` of a tensor at once. Raises ValueError
    for G > 64, or more pixels than are `reachable`.

    A sum is cut into so many parts that the programs fill the chip `RESIDENT` times at most,
    because each part costs its own sums.
    """
    tile, pack = tile_of(group)
    if not reachable(pixels, group):
        raise ValueError(
            f"the Triton kernels take images of fewer than {2**31 // tile} pixels "
            f"at G = {group}, not {pixels}; set `kernels` to 'torch'"
        )
    tiles = -(-channels // (pack * group))
    most = 1 if tile > 32 else WARPS
    stack = min(most, power(tiles)) if last else most
    width = max(16, min(WIDTHS[tile], elements // (tile * most), power(pixels)))
    if not last:
        stack = min(stack, power(-(-pixels // width)))
    bundles, block = (-(-tiles // stack), width) if last else (tiles, stack * width)
    count = -(-pixels // block)
    parts = max(1, min(RESIDENT * multiprocessors // (images * bundles), MOST_PARTS, count))
    blocks = -(-count // parts)
    parts = -(-count // blocks)
    warps = WARPS if tile > 32 else stack
    registers = (
        ALL if tile > 16 else MAP_REGISTERS if last and pack == 1 and elements == MAP else None
    )
    return Plan(
        images,
        channels,
        pixels,
        group,
        tile,
        pack,
        last,
        bundles,
        stack,
        warps,
        width,
        block,
        parts,
        blocks,
        _unit(pixels),
        registers,
        _unit(channels),
    )


def layout_plan(x: Tensor, group: int, elements: int) -> Plan:
    """The plan for `x` (N, C, H, W), contiguous or channels_last, where a program holds `elements`
    of it at once.
    """
    n, channels, height, width = x.shape
    return plan_of(
        n,
        channels,
        height * width,
        group,
        not x.is_contiguous(),
        multiprocessors(x.device),
        elements,
    )


def arguments(plan: Plan) -> dict[str, object]:
    """The compile-time constants of both kinds of passes."""
    return {
        "G": plan.group,
        "TILE": plan.tile,
        "PACK": plan.pack,
        "STACK": plan.stack,
        "WIDTH": plan.width,
        "LAST": plan.last,
        "CHANNEL_UNIT": plan.channel_unit,
        "PIXEL_UNIT": plan.pixel_unit,
        "PRECISION": PRECISION,
    }
