"""How the products of an iteration are formed: in the dtype of the matrices, or of operands rounded
to bfloat16 with sums in float32, as tensor cores do it.
"""

import torch
from torch import Tensor

FULL, BFLOAT16 = "full", "bfloat16"
PRECISIONS = (FULL, BFLOAT16)

NARROW = "products of bfloat16: two to three digits"
"""The text of `Solver.inexact` for a method with bfloat16 products."""

_WIDENS = tuple(map(int, torch.__version__.split("+")[0].split(".")[:2])) >= (2, 8)
"""Since torch 2.8 cuBLAS multiplies bfloat16 into float32; a CPU rounds the sum to bfloat16."""


def bmm(a: Tensor, b: Tensor, precision: str = FULL, out: Tensor | None = None) -> Tensor:
    """A b of (B, G, G) each, in `precision`; `out` is written where the product is `FULL`.

    On a CPU a `BFLOAT16` product multiplies the rounded operands in float32. Every product of two
    such numbers is exact there, so only the order of the sums differs, and nothing is faster.
    """
    if precision == FULL:
        return torch.bmm(a, b, out=out)
    a, b = a.bfloat16(), b.bfloat16()
    if a.is_cuda and _WIDENS:
        return torch.bmm(a, b, out_dtype=torch.float32)
    return torch.bmm(a.float(), b.float())


def baddbmm(
    c: Tensor,
    a: Tensor,
    b: Tensor,
    *,
    beta: float,
    alpha: float,
    precision: str = FULL,
    out: Tensor | None = None,
) -> Tensor:
    """The sum `beta` c + `alpha` a b, with the product of `bmm`."""
    if precision == FULL:
        return torch.baddbmm(c, a, b, beta=beta, alpha=alpha, out=out)
    return beta * c + alpha * bmm(a, b, precision).to(c.dtype)
