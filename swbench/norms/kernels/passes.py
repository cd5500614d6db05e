"""The contract of the passes of a whitening layer: four over the full tensors, and the small
algebra between them.
"""

from abc import ABC, abstractmethod

from torch import Tensor

from swbench.norms.kernels.algebra import Gradients, Parameters, Reduce, Solved
from swbench.norms.recipe import Recipe
from swbench.norms.statistics import Statistics
from swbench.solvers.base import Solver


class Passes(ABC):
    """The passes over (N, C, H, W) tensors that a whitening layer needs, C = g·G, and the small
    algebra between them.

    Callers guarantee that x and dy are dense in the same memory format, contiguous or
    channels_last, with N·H·W > 0, and float64, float32, bfloat16 or float16. All other tensors are
    in `statistics_dtype(x)`, contiguous, on the same device. Where the first dimension of a matrix
    is 1 it holds for all N images. Sums are taken in `statistics_dtype(x)` at least. No method
    records autograd state, synchronises with the host, or changes its arguments; results are new
    tensors, never views of an argument.

    `share` and `single_image` are explained in `Statistics`.
    """

    @abstractmethod
    def moments(self, x: Tensor, shift: Tensor, group: int) -> tuple[Tensor, Tensor]:
        """Mean (N, g, G), absolute, and biased central covariance (N, g, G, G), symmetric to
        rounding, of every image.

        `shift` (N, C) is near the mean of each image; deviations are taken from it before they are
        multiplied, so that no precision is lost where the mean is many standard deviations from 0,
        or images differ by as much.
        """

    @abstractmethod
    def affine(self, x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """The map y = A x + b at every pixel: `a` (N or 1, g, G, G), `b` (N or 1, g, G). y has the
        shape, dtype and layout of x. `a` may be a transposed view of a contiguous tensor.
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

    @abstractmethod
    def mix_and_solve(
        self, recipe: Recipe, solver: Solver, stats: Statistics, parameters: Parameters
    ) -> Solved:
        """Compute A and b of y = A x + b from statistics."""

    @abstractmethod
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
        """Compute B and c of dx = Aᵀ dy + B x + c, and the gradients of the parameters, from m and
        s of `products`. `pixels` = H·W.

        `reduce`, if given, sums the gradients of the batch statistics over ranks, times the share
        of this rank in the batch. It is called once where gradients flow through batch statistics.
        """
