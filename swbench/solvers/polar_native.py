"""Σ^(-1/2) by the coupled minimax quintic in C: small matrices in vector registers, spread over
torch's threads.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.native import library
from swbench.solvers.base import Saved, Solver, dtype_name
from swbench.solvers.polar import Polar

ELSEWHERE = Polar()
"""The solver for float64, for G > 64, and for tensors that are not on a CPU."""


@dataclass(frozen=True, kw_only=True)
class PolarNative(Solver):
    """The iteration of `polar` in C, float32, G ≤ 64, on a CPU; elsewhere `polar` itself. The
    gradient is by the coupled sign iteration.

    The iteration takes six quintic steps and a cubic one. A matrix whose ZY is not near I after the
    six gets Taylor quintics until it is (in all up to κ ≈ 1e12 before rounding). A matrix that is
    still not near I, such as an indefinite one, goes through Jacobi in float64 with eigenvalues
    clamped at 1e-7·λ_max, as in `eigh`. The gradient takes as many steps as the measured condition
    number asks for. Results do not depend on the number of threads.
    """

    name: ClassVar[str] = "polar-native"
    source: ClassVar[str] = (
        "swbench/native/src/inverse_sqrt.c: coupled iteration of Higham 2008, "
        "eq. 6.35, with minimax quintics"
    )

    def fits(self, group: int, dtype: str | torch.dtype) -> bool:
        return group <= library.MAX_GROUP and dtype_name(dtype) == "float32"

    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        if (
            cov.shape[-1] > library.MAX_GROUP
            or not library.reads(cov)
            or library.missing() is not None
        ):
            return ELSEWHERE.forward(cov)
        cov = cov.contiguous()
        w, norm = torch.empty_like(cov), cov.new_empty(len(cov))
        library.load().sw_inverse_sqrt(
            cov.data_ptr(),
            w.data_ptr(),
            norm.data_ptr(),
            len(cov),
            cov.shape[-1],
            torch.get_num_threads(),
        )
        return w, (w, norm)

    def gradient(self, saved: Saved, grad_w: Tensor) -> Tensor:
        if len(saved) == 1:
            return ELSEWHERE.gradient(saved, grad_w)
        w, norm = saved
        grad_w, grad_cov = grad_w.contiguous(), torch.empty_like(w)
        pointers = (w.data_ptr(), norm.data_ptr(), grad_w.data_ptr(), grad_cov.data_ptr())
        library.load().sw_inverse_sqrt_gradient(
            *pointers, len(w), w.shape[-1], torch.get_num_threads()
        )
        return grad_cov

    def in_torch(self) -> Solver:
        return ELSEWHERE

    def flops(self, group: int) -> float:
        """2 G³ a product: 2 in the first quintic, 4 in each of the five others, 2 in the cubic
        (counted).
        """
        return 24 * 2.0 * group**3

    def available(self, device: str | torch.device) -> str | None:
        if not str(device).startswith("cpu"):
            return f"polar-native runs on a CPU, not on {device}: use polar"
        return library.missing()
