"""The contract of a solver: Σ -> Σ^(-1/2) for a batch of small symmetric positive definite
matrices, with its gradient.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import ClassVar

import torch
from torch import Tensor

Saved = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Solver(ABC):
    """One method for W = Σ^(-1/2). Hyper-parameters are fields; calling it is differentiable.

    A subclass writes `forward` and `gradient`; layers with a closed-form backward of their own call
    these two directly, without autograd, and neither may record autograd state. The symmetric part
    of the input is what is solved: both triangles count alike. A matrix with a non-finite entry
    gives a non-finite W and gradient for itself alone, decided without a host synchronisation
    (`isolate`).

    `exact` is False for methods that do not converge to Σ^(-1/2) by design, and `inexact` says what
    they give instead; `symmetric` is False where W is not; `synchronises` is True where CUDA calls
    wait for the host, which rules out CUDA graphs; `dtypes` are those it takes.
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
        """W of shape (B, G, G) for `cov` of shape (B, G, G), and the tensors that `gradient`
        needs.
        """

    @abstractmethod
    def gradient(self, saved: Saved, grad_w: Tensor) -> Tensor:
        """∂L/∂Σ, symmetric, (B, G, G), from what `forward` saved and ∂L/∂W of shape (B, G, G)."""

    @abstractmethod
    def flops(self, group: int) -> float:
        """Floating-point operations for one `group`×`group` matrix, forward, with the source of the
        formula in its docstring.
        """

    @property
    def spec(self) -> str:
        """What `swbench.solvers.get` makes this solver of, with every option."""
        options = ",".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))
        return f"{self.name}:{options}" if options else self.name

    def tolerance(self, kappa: float, group: int = 16) -> float:
        """Relative error of W against float64 that the method promises in float32 at condition
        number `kappa`.

        About κ·u, below which no stable method gets in float32.
        """
        return 5.0 * max(kappa, 10.0) * 6e-8 * group**0.5 + 2e-6

    def available(self, device: str | torch.device) -> str | None:
        """Why this solver cannot run on `device` (`cpu`, `cuda`) here, as a remedy; None if it
        can.
        """
        if str(device).startswith("cuda") and not torch.cuda.is_available():
            return "no CUDA device is visible to torch here; use --device cpu"
        return None

    def fits(self, group: int, dtype: str | torch.dtype) -> bool:
        """Whether the method itself takes matrices of `group`×`group` in `dtype` (`float32`,
        `torch.float64`), on whatever device it is `available`.

        What does not fit is refused, or handed to another method where the class says so; nobody
        should time or choose it under this name.
        """
        return True

    def in_torch(self) -> "Solver":
        """The same method in torch operations alone, whose `forward` autograd can record: itself,
        unless it writes through addresses.
        """
        return self

    def transferred_bytes(self, cov: Tensor) -> int:
        """Bytes that one forward call moves between `cov`'s device and the host."""
        return 0

    def __call__(self, cov: Tensor) -> Tensor:
        """W = Σ^(-1/2), differentiable. `cov`: (B, G, G), or (G, G) or more batch dimensions.
        Raises ValueError for any other shape or dtype.
        """
        if cov.dim() < 2 or cov.shape[-1] != cov.shape[-2]:
            raise ValueError(
                f"a solver needs square matrices of shape (B, G, G), not {tuple(cov.shape)}"
            )
        if dtype_name(cov.dtype) not in self.dtypes:
            raise ValueError(
                f"solver {self.name!r} takes {' and '.join(self.dtypes)}, not "
                f"{dtype_name(cov.dtype)}"
            )
        flat = cov.reshape(cov.shape[:-2].numel(), *cov.shape[-2:])
        return _InverseSqrt.apply(flat, self).reshape(cov.shape)


class _InverseSqrt(torch.autograd.Function):
    """Autograd around a solver's own forward and gradient."""

    @staticmethod
    def forward(ctx, cov: Tensor, solver: Solver) -> Tensor:
        w, saved = solver.forward(cov)
        ctx.save_for_backward(*saved)
        ctx.solver = solver
        return w

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_w: Tensor):
        return ctx.solver.gradient(ctx.saved_tensors, grad_w), None


def isolate(cov: Tensor) -> tuple[Tensor, Tensor]:
    """The symmetric part of `cov` with the identity in place of every matrix that is not finite,
    and the mask (B, 1, 1) of the good ones.

    LAPACK and cuSOLVER raise for a whole batch because of one such matrix; a check on the host
    would synchronise. Write NaN back into the bad ones with `torch.where(good, w, nan)`. A matrix
    whose entries overflow when summed counts as not finite.
    """
    good = torch.isfinite(cov.sum((-2, -1), keepdim=True))
    eye = torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    return torch.where(good, symmetric(cov), eye), good


def dtype_name(dtype: str | torch.dtype) -> str:
    """`float32`, of `torch.float32` as of `float32`."""
    return str(dtype).removeprefix("torch.")


def symmetric(matrix: Tensor) -> Tensor:
    """Half the sum of a matrix and its transpose."""
    return 0.5 * (matrix + matrix.mT)


def one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError, naming what is allowed, unless `value` is."""
    if value not in allowed:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, allowed))}, not {value!r}")
