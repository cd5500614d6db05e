"""`polar` and its Lyapunov backward as one Triton kernel each."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.base import Saved, Solver, dtype_name, one_of
from swbench.solvers.iterative import AUTOGRAD, gradient_quintics, quintics
from swbench.solvers.polar import Polar
from swbench.solvers.products import FULL
from swbench.solvers.triton_kernels import TILE_LIMIT, missing, tile_of

PRECISIONS = ("auto", "ieee", "tf32x3")
"""How a product of float32 is formed: in float32, or on tensor cores in three passes of TF32. One
pass would not converge.

`auto` is `ieee` in a tile of 16 and `tf32x3` above, where the compiler takes half a minute and more
to unroll products in float32.
"""


def product_precision(precision: str, group: int) -> str:
    """The precision that `auto` stands for at this `group`; any other `precision` is returned as it
    is.
    """
    if precision != "auto":
        return precision
    return "ieee" if tile_of(group)[0] == 16 else "tf32x3"


@dataclass(frozen=True, kw_only=True)
class PolarTriton(Polar):
    """One launch forward and one backward, with one program for each matrix (for several where G ≤
    8). float32, G ≤ 64. `low` and `steps` as in `polar`.
    """

    name: ClassVar[str] = "polar-triton"
    source: ClassVar[str] = "swbench.solvers.polar and swbench.solvers.lyapunov, in Triton"
    dtypes: ClassVar[tuple[str, ...]] = ("float32",)

    precision: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of("precision", self.precision, PRECISIONS)
        if self.products != FULL:
            raise ValueError(
                f"products {self.products!r} are of 'polar'; here the option precision says how "
                "products are formed"
            )
        if self.backward == AUTOGRAD:
            raise ValueError(
                "backward 'autograd' cannot see into a kernel; use 'lyapunov', or the "
                "solver 'polar'"
            )

    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        from swbench.solvers.triton_kernels.polar import polar

        w = polar(
            cov,
            quintics(torch.float32, self.low, self.steps),
            product_precision(self.precision, cov.shape[-1]),
        )
        return w, (w,)

    def gradient(self, saved: Saved, grad_w: Tensor) -> Tensor:
        from swbench.solvers.triton_kernels.polar import lyapunov

        (w,) = saved
        group = w.shape[-1]
        return lyapunov(
            w,
            grad_w,
            gradient_quintics(torch.float32, group),
            product_precision(self.precision, group),
        )

    inverse_root = Solver.inverse_root
    root_flops = Solver.root_flops
    least_flops = Solver.least_flops

    def fits(self, group: int, dtype: str | torch.dtype) -> bool:
        return group <= TILE_LIMIT and dtype_name(dtype) in self.dtypes

    def in_torch(self) -> Polar:
        return Polar(low=self.low, steps=self.steps)

    def available(self, device: str | torch.device) -> str | None:
        return super().available(device) or missing(device)
