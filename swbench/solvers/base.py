"""The contract of a solver: Σ -> Σ^(-1/2) for a batch of small symmetric positive definite
matrices, with its gradient, and Σ^(-1/4) without one.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor
from torch.autograd import forward_ad

from swbench.native import library
from swbench.solvers.derivatives import FromW, by_iteration, in_nested_jvp, with_graph
from swbench.solvers.matrices import isolate as isolate
from swbench.solvers.matrices import symmetric as symmetric
from swbench.solvers.tracing import transforming

Saved = tuple[Tensor, ...]

ROOTS = (2, 4)
"""The supported p of Σ^(-1/p): 2 for whitening, 4 for Shampoo's preconditioners (Gupta, Koren and
Singer 2018).
"""

LOST = 0.5
"""A relative error with no correct digit. A root of the wrong order has a larger error for every
spectrum with a condition number of 100 or more.
"""


@dataclass(frozen=True, kw_only=True)
class Solver(ABC):
    """One method for W = Σ^(-1/2). Hyper-parameters are fields; calling it is differentiable.

    A subclass implements `forward` and `gradient`. Layers with a closed-form backward call these
    two directly, without autograd, and neither may record autograd state. Solvers use the symmetric
    part of the input. A matrix with a non-finite entry gets a non-finite W and gradient and does
    not affect the others, without a host synchronisation (`isolate`).

    `exact` is False for methods that by design do not converge to Σ^(-1/2), and `inexact` describes
    their result. `symmetric` is False where W is not symmetric. `synchronises` is True where CUDA
    calls wait for the host, which rules out CUDA graphs. `dtypes` are the supported dtypes, `roots`
    the p of the supported Σ^(-1/p), and `fits` checks sizes.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    exact: ClassVar[bool] = True
    inexact: ClassVar[str] = ""
    symmetric: ClassVar[bool] = True
    synchronises: ClassVar[bool] = False
    dtypes: ClassVar[tuple[str, ...]] = ("float32", "float64")

    @abstractmethod
    def forward(self, cov: Tensor) -> tuple[Tensor, Saved]:
        """Compute W (B, G, G) for `cov` (B, G, G). Also returns the tensors that
        `gradient` needs.
        """

    @abstractmethod
    def gradient(self, saved: Saved, grad_w: Tensor) -> Tensor:
        """∂L/∂Σ, symmetric, (B, G, G), from what `forward` saved and ∂L/∂W of shape (B, G, G)."""

    @property
    def roots(self) -> tuple[int, ...]:
        """The p for which `inverse_root` computes Σ^(-1/p)."""
        return ROOTS if self.exact else (2,)

    def inverse_root(self, cov: Tensor, root: int = 2) -> Tensor:
        """Σ^(-1/root) of `cov`, (B, G, G), without a gradient.

        The fourth root is (Σ W)^(-1/2) with W = Σ^(-1/2), by the same method, unless a subclass
        has a cheaper one. Raises ValueError for a root that is not among `roots`.
        """
        self.check_root(root)
        w = self.forward(cov)[0]
        return w if root == 2 else self.forward(symmetric(symmetric(cov) @ w))[0]

    def check_root(self, root: int) -> None:
        """Raises ValueError unless `root` is among `roots`."""
        if root not in self.roots:
            taken = " and ".join(map(str, self.roots))
            raise ValueError(f"solver {self.name!r} gives roots {taken}, not {root}")

    def root_flops(self, group: int, root: int = 2) -> float:
        """As `flops`, for `inverse_root`. The fourth root takes twice as many operations and one
        more product, unless a subclass has a cheaper method.
        """
        return self.flops(group) if root == 2 else 2 * self.flops(group) + 2.0 * group**3

    def least_flops(self, group: int, root: int = 2) -> float:
        """A lower bound of the operations of any call of `inverse_root`, for the shortest possible
        time. It is one matrix product, unless a subclass counts all operations.
        """
        return 2.0 * group**3

    @abstractmethod
    def flops(self, group: int) -> float:
        """Floating-point operations for one `group`×`group` matrix, forward, with the source of the
        formula in its docstring.
        """

    @property
    def spec(self) -> str:
        """The spec from which `swbench.solvers.get` builds this solver, with every option."""
        options = ",".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))
        return f"{self.name}:{options}" if options else self.name

    def tolerance(self, kappa: float, group: int = 16) -> float:
        """The bound of the relative error of W in float32 against float64, at condition number
        `kappa`, for every root.

        About κ·u, the least that a stable method reaches in float32; at most `LOST`, an error that
        leaves no correct digit.
        """
        return min(LOST, 5.0 * max(kappa, 10.0) * 6e-8 * group**0.5 + 2e-6)

    def available(self, device: str | torch.device) -> str | None:
        """The reason why this solver cannot run on `device` (`cpu`, `cuda`) here, with a remedy;
        None if it can.
        """
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            return "no CUDA device is visible to torch here; use --device cpu"
        return None

    def fits(self, group: int, dtype: str | torch.dtype) -> bool:
        """Whether the method supports matrices of `group`×`group` in `dtype` (`float32`,
        `torch.float64`), on every device where it is `available`.

        Other matrices are refused, or solved by another method where the class says so; they must
        not be timed or chosen under this name.
        """
        return True

    def in_torch(self) -> "Solver":
        """The same method in torch operations, whose `forward` autograd can record: the solver
        itself, unless it runs kernels in C or Triton.
        """
        return self

    @property
    def differentiates_as_exact(self) -> bool:
        """Whether `gradient` is that of Σ^(-1/2) and needs W alone. If not, `in_torch` must consist
        of operations that autograd differentiates.
        """
        return self.exact and self.symmetric

    def differentiable(self, cov: Tensor) -> Tensor:
        """Compute W of `cov` (B, G, G), with derivatives of every order in both modes, under any
        transform of `torch.func`. Slower than `forward` with `gradient`; the results agree.
        """
        if not self.differentiates_as_exact:
            return self.in_torch().forward(cov)[0]
        return by_iteration(cov) if in_nested_jvp() else FromW.apply(cov, self.forward)

    def transferred_bytes(self, cov: Tensor) -> int:
        """Bytes that one forward call moves between `cov`'s device and the host."""
        return 0

    def check(self, cov: Tensor) -> None:
        """Raises ValueError unless `cov` consists of square matrices in a supported dtype."""
        if cov.dim() < 2 or cov.shape[-1] != cov.shape[-2]:
            raise ValueError(
                f"a solver needs square matrices of shape (B, G, G), not {tuple(cov.shape)}"
            )
        if dtype_name(cov.dtype) not in self.dtypes:
            raise ValueError(
                f"solver {self.name!r} takes {' and '.join(self.dtypes)}, not "
                f"{dtype_name(cov.dtype)}"
            )

    def __call__(self, cov: Tensor) -> Tensor:
        """W = Σ^(-1/2), differentiable. `cov`: (B, G, G), or (G, G) or more batch dimensions.
        Raises ValueError for any other shape or dtype.
        """
        self.check(cov)
        flat = cov.reshape(cov.shape[:-2].numel(), *cov.shape[-2:])
        if transforming() or forward_ad._current_level >= 0:
            return self.differentiable(flat).reshape(cov.shape)
        return _InverseSqrt.apply(flat, self).reshape(cov.shape)


class _InverseSqrt(torch.autograd.Function):
    """An autograd Function of a solver's forward and gradient. Where a graph of the gradient is
    needed, W is recomputed by `differentiable`.
    """

    @staticmethod
    def forward(ctx, cov: Tensor, solver: Solver) -> Tensor:
        w, saved = solver.forward(cov)
        ctx.save_for_backward(cov, *saved)
        ctx.solver = solver
        return w

    @staticmethod
    def backward(ctx, grad_w: Tensor):
        cov, *saved = ctx.saved_tensors
        if torch.is_grad_enabled() or not library.has_memory(grad_w):
            return *with_graph(ctx.solver.differentiable, (cov,), (True,), grad_w), None
        return ctx.solver.gradient(tuple(saved), grad_w), None


def dtype_name(dtype: str | torch.dtype) -> str:
    """The name of a dtype: `float32` for both `torch.float32` and `float32`."""
    return str(dtype).removeprefix("torch.")


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError, with the allowed values, unless `value` is one of them."""
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
