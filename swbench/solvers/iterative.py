"""The base of iterative solvers, which only multiply (or invert): they normalise, iterate a fixed
number of times, and undo the normalisation.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from swbench.solvers.base import Saved, Solver, isolate, one_of, symmetric
from swbench.solvers.lyapunov import lyapunov_gradient
from swbench.solvers.minimax import Step, schedule, steps_needed
from swbench.solvers.tracing import tracing

LYAPUNOV, AUTOGRAD = "lyapunov", "autograd"
UNIT = {torch.float32: 2.0**-24, torch.float64: 2.0**-53}
"""Unit roundoff of the dtypes a solver takes."""
LOW = {torch.float32: 1e-3, torch.float64: 1e-6}
"""The smallest √λ of the normalised Σ that an iteration is made for. It corresponds to κ = 1e6 in
float32, beyond which an error of κ·u leaves nothing, and to κ = 1e12 in float64.
"""


def quintics(dtype: torch.dtype, low: float = 0.0, steps: int = 0) -> tuple[Step, ...]:
    """The minimax quintics for √λ in [`low`, 1]. `low` 0 stands for `LOW` of the dtype, `steps` 0
    for as many steps as the interval needs.

    For W an error of the square root of the roundoff would do, because the cubic that follows
    squares it. But the Lyapunov backward is only as exact as the last quintic. So the quintics go
    down to the roundoff: 7 of them in float32, 13 in float64.
    """
    low = low or LOW[dtype]
    return schedule(low, steps or steps_needed(low, UNIT[dtype]))[0]


def gradient_quintics(dtype: torch.dtype, group: int) -> tuple[Step, ...]:
    """The quintics of the Lyapunov backward for matrices of `group`×`group`.

    They act on W/‖W‖_F, whose smallest eigenvalue is 1/(√λ_max ‖W‖_F). It goes down to κ^(-1/2)
    G^(-1/2), where all eigenvalues of Σ but one are equal and small, as in a covariance of few
    pixels. With quintics for the interval of the forward iteration, such a gradient is off by 10 %
    at G = 16 and κ = 1e6, and by 13 % at G = 64 and κ = 3e5.
    """
    return quintics(dtype, LOW[dtype] / group**0.5)


@dataclass(frozen=True, kw_only=True)
class IterativeSolver(Solver):
    """A solver whose subclass only iterates. The number of steps is fixed by the dtype, so nothing
    waits for a value.

    `backward` is `lyapunov`, from W alone, or `autograd` through the iteration, which is run again
    to record it.
    """

    backward: str = LYAPUNOV

    def __post_init__(self) -> None:
        one_of("backward", self.backward, (LYAPUNOV, AUTOGRAD))

    @abstractmethod
    def iterate(self, cov: Tensor) -> Tensor:
        """W up to a rounding asymmetry, for finite symmetric `cov`. Differentiable by autograd
        where `cov` requires a gradient.
        """

    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        safe, good = isolate(cov)
        w = torch.where(good, symmetric(self.iterate(safe)), torch.nan)
        return w, ((w,) if self.backward == LYAPUNOV else (safe, good))

    def gradient(self, saved: Saved, grad_w: Tensor) -> Tensor:
        if self.backward == LYAPUNOV:
            (w,) = saved
            return lyapunov_gradient(w, grad_w, gradient_quintics(w.dtype, w.shape[-1]))
        safe, good = saved
        with torch.enable_grad():
            leaf = safe.detach().requires_grad_()
            (grad,) = torch.autograd.grad(symmetric(self.iterate(leaf)), leaf, grad_w)
        return torch.where(good, symmetric(grad), torch.nan)


@dataclass(frozen=True, kw_only=True)
class SteppedSolver(IterativeSolver):
    """An iteration of `steps` equal steps; 0 stands for the number in `USUAL` for the dtype."""

    USUAL: ClassVar[dict[torch.dtype, int]]

    steps: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise ValueError(f"steps must be positive (0 for the default), not {self.steps}")

    def count(self, dtype: torch.dtype) -> int:
        """The steps in `dtype`."""
        return self.steps or self.USUAL[dtype]


def is_recorded(like: Tensor) -> bool:
    """Whether products of `like` are recorded, by autograd or by a trace that may run under
    autograd. Both need new tensors, because autograd refuses `out=`.
    """
    return like.requires_grad or tracing() is not None


def buffers(like: Tensor, count: int) -> list[Tensor | None]:
    """`count` tensors to write products to; None for each where products are recorded."""
    return [None if is_recorded(like) else torch.empty_like(like) for _ in range(count)]


def normalised(cov: Tensor, margin: float = 1.0001) -> tuple[Tensor, Tensor]:
    """Each matrix of `cov` divided by `margin` times its Frobenius norm, so that all eigenvalues
    lie in (0, 1), and that divisor, (B, 1, 1).

    The margin keeps rounding from putting an eigenvalue above 1. In a published code, a norm of the
    whole batch in its place costs 20–60 % of the gradient.
    """
    norm = margin * torch.linalg.matrix_norm(cov, keepdim=True)
    return cov / norm, norm
