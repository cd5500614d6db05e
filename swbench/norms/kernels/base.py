"""The contract of a kernel set: four passes over the full tensors, and the small algebra between
them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from swbench.norms.kernels import algebra
from swbench.norms.kernels.algebra import Gradients, Parameters, Reduce, Solved
from swbench.norms.recipe import Recipe
from swbench.norms.statistics import Statistics
from swbench.solvers.base import Solver

Bound = Callable[..., Tensor]
"""A function of x, γ, β and the two vectors of logits (None where the layer has none) that gives
y.
"""
Again = Callable[..., Tensor | None]
"""`again` of a `Bound` that has it: the same where all tensors, running statistics too, are as they
were when it was made; None, and nothing done, where not.

A layer whose settings are what they were asks it before it finds out the kind of a call itself,
which with cold caches takes as long as a small layer.
"""

if TYPE_CHECKING:
    from swbench.norms.kernels.halves import Halves
    from swbench.norms.whitening import Call


def statistics_dtype(x: Tensor) -> torch.dtype:
    """float64 for a float64 tensor, float32 for every other."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def abstract(x: Tensor) -> bool:
    """Whether the memory of `x` does not hold what it stands for: views of the opposite, and zeros
    of forward-mode differentiation, which have none.
    """
    return x.is_neg() or x._is_zerotensor()


def concrete(x: Tensor) -> Tensor:
    """`x`, with memory that holds its values."""
    return x.clone() if abstract(x) else x


def dense(x: Tensor) -> Tensor:
    """`x` itself if it is contiguous or channels_last, as the passes need it, otherwise a
    contiguous copy.
    """
    return (
        x
        if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        else x.contiguous()
    )


def on_one_device(x: Tensor, others: Iterable[Tensor | None]) -> None:
    """Raises RuntimeError if one of `others` is not where `x` is. Kernels are given addresses, and
    one of another device would end the process.
    """
    apart = {str(t.device) for t in others if t is not None and t.device != x.device}
    if apart:
        raise RuntimeError(
            f"the input is on {x.device}, tensors of the layer on "
            f"{', '.join(sorted(apart))}; move the one to the other"
        )


def sized(given: Iterable[Tensor | None], channels: int, kinds: int) -> None:
    """Raises ValueError unless γ and β have an entry a channel and both logits one a statistic.
    Kernels read so many, whatever there is.
    """
    for name, p, size in zip(
        ("weight", "bias", "sw_mean_weight", "sw_var_weight"),
        given,
        (channels, channels, kinds, kinds),
        strict=True,
    ):
        if p is not None and p.numel() != size:
            raise ValueError(f"{name} must have {size} entries, not the shape {tuple(p.shape)}")


class Kernels(ABC):
    """The passes over (N, C, H, W) tensors that a whitening layer needs, C = g·G, and what lies
    between them.

    What a caller promises: x and dy are dense in the same memory format, contiguous or
    channels_last; N·H·W > 0; float64, float32, bfloat16 or float16. All other tensors are in
    `statistics_dtype(x)`, contiguous, on the same device. Where the first dimension of a matrix is
    1 it holds for all N images. Sums are taken in `statistics_dtype(x)` at least. No method records
    autograd state, synchronises with the host, or changes its arguments; results are new tensors,
    never views of an argument.

    `share` and `alone` are explained in `Statistics`.
    """

    name: ClassVar[str]

    @abstractmethod
    def takes(self, x: Tensor) -> bool:
        """Whether this set can work on `x` (device, dtype) here. Cheap: it is asked in every
        forward.
        """

    @abstractmethod
    def moments(self, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        """Mean (N, g, G), absolute, and biased central covariance (N, g, G, G), symmetric to
        rounding, of every image.

        `shift` (N, C) is near the mean of each image; deviations are taken from it before they are
        multiplied, so that nothing is lost when the mean is many standard deviations, or when
        images differ by as much.
        """

    @abstractmethod
    def affine(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """The map y = A x + b at every pixel: `a` (N or 1, g, G, G), `b` (N or 1, g, G). y has the
        shape, dtype and layout of x.
        """

    @abstractmethod
    def products(self, dy: Tensor, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        """Σ_p dy (x − shift)ᵀ, (N, g, G, G), and Σ_p dy, (N, g, G), over the pixels p of every
        image. `shift` (N, C).
        """

    @abstractmethod
    def combine(self, dy: Tensor, x: Tensor, at: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """The gradient dx = Aᵀ dy + B x + c at every pixel: `at` = Aᵀ and `b` (N or 1, g, G, G),
        `c` (N or 1, g, G). dx is laid out like x.

        `at` may be a transposed view of a contiguous tensor.
        """

    def function(self, call: "Call") -> "type[torch.autograd.Function] | None":
        """An autograd Function of its own for the whole layer, with the arguments of `Whitening`;
        None to be called pass by pass.
        """
        return None

    def bind(self, call: "Call", x: Tensor) -> Bound:
        """The layer for `call` and inputs like `x`: a function of x and the four parameters,
        differentiable where gradients are recorded.

        A layer keeps it for inputs of the same shape, strides, dtype and device, while its running
        statistics are the same tensors; so what can be made ready for these belongs here. Not for a
        batch that is spread over ranks.
        """
        from swbench.norms.whitening import Whitening, there

        function = self.function(call) or Whitening

        def bound(x: Tensor, *given: Tensor | None) -> Tensor:
            return (
                function.apply(x, *given, call)
                if function is not Whitening or torch.is_grad_enabled()
                else there(call, x, given)[0]
            )

        return bound

    def halves(self, call: "Call") -> "Halves":
        """The whole layer without autograd, for the operators that compiled graphs call; a set with
        a `function` offers its own.
        """
        from swbench.norms.kernels.halves import PASSES

        return PASSES

    def mix_and_solve(
        self, recipe: Recipe, solver: Solver, stats: Statistics, parameters: Parameters
    ) -> Solved:
        """From statistics to A and b of y = A x + b. A fused set may override it, and
        `small_gradients` with it.
        """
        return algebra.mix_and_solve(recipe, solver, stats, parameters)

    def small_gradients(
        self,
        recipe: Recipe,
        solver: Solver,
        stats: Statistics,
        parameters: Parameters,
        solved: Solved,
        m: Tensor,
        s: Tensor,
        shift: Tensor,
        pixels: int,
        reduce: Reduce | None = None,
    ) -> Gradients:
        """From `products` to B and c of dx = Aᵀ dy + B x + c, and the gradients of the parameters.
        `pixels` = H·W.

        `reduce`, if given, sums the gradients of the batch statistics over ranks, times the share
        of the batch that is here; it is called once wherever gradients flow through batch
        statistics.
        """
        return algebra.small_gradients(
            recipe, solver, stats, parameters, solved, m, s, shift, pixels, reduce
        )
