"""The passes as functions of tensors: plan, allocate, launch."""

import torch
from torch import Tensor

from swbench.norms.kernels.triton_kernels.maps import UNMIXED, map_kernel
from swbench.norms.kernels.triton_kernels.plan import MAP, MAP_TWO, SUM
from swbench.norms.kernels.triton_kernels.set import arguments, layout_plan
from swbench.norms.kernels.triton_kernels.sums import sums_kernel
from swbench.solvers.triton_kernels.current import on
from swbench.solvers.triton_kernels.interpreter import mend

mend()


def sums(left: Tensor | None, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Σ l (x − shift)ᵀ (N, g, G, G) and Σ l (N, g, G), where l is `left`, or x − shift without one."""
    plan = layout_plan(x, group, SUM)
    second = x.new_empty(plan.images, plan.parts, plan.channels // group, group, group, dtype=torch.float32)
    first = x.new_empty(plan.images, plan.parts, plan.channels // group, group, dtype=torch.float32)
    sizes = (0, plan.channels // plan.channel_unit, plan.pixels // plan.pixel_unit, plan.parts, plan.blocks)
    with on(x.device):
        sums_kernel[(plan.sum_programs,)](left, x, shift, second, first, *sizes, PAIR=left is not None, **arguments(plan), num_warps=plan.warps)
    return (second[:, 0], first[:, 0]) if plan.parts == 1 else (second.sum(1), first.sum(1))


def mapped(source: Tensor, x: Tensor | None, a: Tensor, b: Tensor | None, c: Tensor | None) -> Tensor:
    """A `source` + B `x` + c at every pixel; `a` may be a transposed view of a contiguous tensor. The result is laid out like `source`."""
    n, group = source.shape[0], a.shape[-1]
    plan = layout_plan(source, group, MAP if x is None else MAP_TWO)
    matrices = [t for t in (a, b) if t is not None]
    each = n > 1 and any(t.shape[0] == n for t in matrices)
    if each and any(t.shape[0] != n for t in (*matrices, c) if t is not None):
        a, b, c = (t if t is None else t.expand(n, *t.shape[1:]) for t in (a, b, c))
    transposed = not a.is_contiguous() and a.mT.is_contiguous()
    a, b, c = a.mT if transposed else a.contiguous(), b if b is None else b.contiguous(), c if c is None else c.contiguous()
    out = torch.empty_like(source)
    sizes = (plan.channels // plan.channel_unit, plan.pixels // plan.pixel_unit, int(each))
    with on(source.device):
        constants = {"TRANSPOSED": transposed, **UNMIXED, **arguments(plan)}
        if plan.tile == 16:  # nothing says what x is far from zero by, and float32 is a few times more exact; larger tiles would spill
            constants["PRECISION"] = "ieee"
        map_kernel[(plan.map_programs,)](source, x, out, a, b, c, *[None] * 9, *sizes, **constants, num_warps=plan.warps)
    return out
