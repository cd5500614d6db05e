"""The passes as functions of tensors: plan, allocate, launch."""

import torch
from torch import Tensor

from swbench.norms.kernels.triton_kernels.launch import Launch
from swbench.norms.kernels.triton_kernels.maps import UNMIXED, map_kernel
from swbench.norms.kernels.triton_kernels.plan import (
    MAP,
    MAP_TWO,
    SUM,
    Plan,
    arguments,
    layout_plan,
)
from swbench.norms.kernels.triton_kernels.sums import sums_kernel
from swbench.solvers.triton_kernels import tile_of
from swbench.solvers.triton_kernels.device_guard import on_device


def sum_launch(plan: Plan, pair: bool) -> Launch:
    """The launch of the sums of one tensor, or of a `pair`. Here and below registers have no limit:
    nothing spills, and with a limit more are used than necessary.
    """
    sizes = (
        0,
        plan.channels // plan.channel_unit,
        plan.pixels // plan.pixel_unit,
        plan.parts,
        plan.blocks,
    )
    names = ("dy" if pair else None, "x", "shift", "second", "first")
    return Launch(
        sums_kernel, plan.sum_programs, sizes, {"PAIR": pair, **arguments(plan)}, plan.warps, names
    )


def map_launch(plan: Plan, two: bool, transposed: bool, each: bool) -> Launch:
    """The launch of the map of one tensor or `two`. `transposed`: the transpose of the matrix is
    given; `each`: every image has its own matrix.
    """
    sizes = (plan.channels // plan.channel_unit, plan.pixels // plan.pixel_unit, int(each))
    constants = {"TRANSPOSED": transposed, **UNMIXED, **arguments(plan)}
    # x is not centred, and float32 is a few times more exact; larger tiles would spill
    if plan.tile == 16:
        constants["PRECISION"] = "ieee"
    names = (
        "dy" if two else "x",
        "x" if two else None,
        "y",
        "a",
        "b" if two else None,
        "c",
        *[None] * 9,
    )
    return Launch(map_kernel, plan.map_programs, sizes, constants, plan.warps, names)


def map_elements(group: int, two: bool) -> int:
    """Elements that a program of a map holds at once. Half as many where groups share a tile:
    float32 products and the separation of NaN between groups would spill.
    """
    return (MAP_TWO if two else MAP) // (2 if tile_of(group)[1] > 1 else 1)


def sums(left: Tensor | None, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Σ l (x − shift)ᵀ (N, g, G, G) and Σ l (N, g, G), where l is `left`, or x − shift without
    one.
    """
    plan = layout_plan(x, group, SUM)
    second = x.new_empty(
        plan.images, plan.parts, plan.channels // group, group, group, dtype=torch.float32
    )
    first = x.new_empty(plan.images, plan.parts, plan.channels // group, group, dtype=torch.float32)
    with on_device(x.device):
        sum_launch(plan, left is not None).launch_with_tensors(
            {"dy": left, "x": x, "shift": shift, "second": second, "first": first}
        )
    return (second[:, 0], first[:, 0]) if plan.parts == 1 else (second.sum(1), first.sum(1))


def mapped(source: Tensor, x: Tensor | None, a: Tensor, b: Tensor | None, c: Tensor) -> Tensor:
    """A `source` + B `x` + c at every pixel; `a` may be a transposed view of a contiguous tensor.
    The result is laid out like `source`.
    """
    n, group, two = source.shape[0], a.shape[-1], x is not None
    plan = layout_plan(source, group, map_elements(group, two))
    given = [t for t in (a, b, c) if t is not None]
    each = n > 1 and any(t.shape[0] == n for t in given)
    if each and any(t.shape[0] != n for t in given):
        a, b, c = (t if t is None else t.expand(n, *t.shape[1:]) for t in (a, b, c))
    transposed = not a.is_contiguous() and a.mT.is_contiguous()
    a, b, c = (
        a.mT if transposed else a.contiguous(),
        b if b is None else b.contiguous(),
        c.contiguous(),
    )
    out = torch.empty_like(source)
    with on_device(source.device):
        map_launch(plan, two, transposed, each).launch_with_tensors(
            {"dy" if two else "x": source}
            | ({"x": x} if two else {})
            | {"y": out, "a": a, "b": b, "c": c}
        )
    return out
