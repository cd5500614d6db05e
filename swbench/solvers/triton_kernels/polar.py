"""The coupled minimax quintic and its Lyapunov backward as Triton kernels: the methods of
`swbench.solvers.polar` and `lyapunov`.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from swbench.solvers.minimax import CUBIC, Step
from swbench.solvers.triton_kernels import tile_of, warps_of
from swbench.solvers.triton_kernels.device_guard import on_device
from swbench.solvers.triton_kernels.tile import frobenius, layout, load_symmetric, product, store

if not hasattr(tl.constexpr, "__getitem__"):
    # Triton 3.3 takes tuples as constants but cannot read an entry; 3.4 added this method.
    tl.constexpr.__getitem__ = lambda self, index: self.value[index]


def flat(steps: tuple[Step, ...]) -> tuple[float, ...]:
    """The coefficients of `steps`, a compile-time argument of the kernels."""
    return tuple(number for step in steps for number in step)


@triton.jit
def polynomial(k, STEPS: tl.constexpr):
    """The three coefficients of step `k` of a loop, selected from constants. The compiler would
    prefetch a table in global memory through shared memory, with a barrier of the program in every
    step (docs/gpu-kernels.md).
    """
    a = tl.where(k == 0, STEPS[0], 0.0)
    b = tl.where(k == 0, STEPS[1], 0.0)
    c = tl.where(k == 0, STEPS[2], 0.0)
    for j in tl.static_range(1, len(STEPS) // 3):
        a = tl.where(k == j, STEPS[3 * j], a)
        b = tl.where(k == j, STEPS[3 * j + 1], b)
        c = tl.where(k == j, STEPS[3 * j + 2], c)
    return a, b, c


@triton.jit
def inverse_root(s, norm, eye, STEPS: tl.constexpr, PRECISION: tl.constexpr):
    """W of each finite symmetric matrix of a tile, in registers; `norm` per row as from
    `frobenius`.

    `STEPS`: three coefficients a step, as `flat` lists them.
    """
    s = s / norm[:, None]
    # the first step, where Z is the identity
    z = STEPS[0] * eye + STEPS[1] * s + STEPS[2] * product(s, s, PRECISION)
    y = product(s, z, PRECISION)
    for k in range(1, len(STEPS) // 3):
        a, b, c = polynomial(k, STEPS)
        m = product(z, y, PRECISION)
        h = a * eye + b * m + c * product(m, m, PRECISION)
        y = product(y, h, PRECISION)
        z = product(h, z, PRECISION)
    z = 1.5 * z - 0.5 * product(product(z, y, PRECISION), z, PRECISION)
    return 0.5 * (z + tl.trans(z)) / tl.sqrt(norm)[:, None]


@triton.jit
def whitened_gradient(w, g, norm, eye, STEPS: tl.constexpr, PRECISION: tl.constexpr):
    """The Y of ∂L/∂Σ = W Y W (`lyapunov_gradient`), of each matrix of a tile from its W and the
    symmetric part of ∂L/∂W; `norm` of W.

    `STEPS`: three coefficients a step, as `flat` lists them, the last step the cubic.
    """
    b = w / norm[:, None]
    c = -product(product(w, g, PRECISION), w, PRECISION) / norm[:, None]
    for k in range(len(STEPS) // 3):
        a1, a3, a5 = polynomial(k, STEPS)
        skew = product(b, c, PRECISION)
        skew = skew - tl.trans(skew)
        q = product(b, b, PRECISION)
        t = product(q, skew, PRECISION)
        h = a1 * eye + a3 * q + a5 * product(q, q, PRECISION)
        c = product(b, a3 * skew + a5 * (t - tl.trans(t)), PRECISION) + product(c, h, PRECISION)
        c = 0.5 * (c + tl.trans(c))
        b = product(b, h, PRECISION)
    return 0.5 * c


@triton.jit
def both_sides(w, y, PRECISION: tl.constexpr):
    """W Y W, symmetric, of each matrix of a tile. It is separate from `whitened_gradient`, so that
    W may be loaded anew after it and need not be kept meanwhile.
    """
    c = product(product(w, y, PRECISION), w, PRECISION)
    return 0.5 * (c + tl.trans(c))


@triton.jit
def polar_kernel(
    cov,
    out,
    count,
    STEPS: tl.constexpr,
    G: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """W of each matrix of a tile."""
    _inner, at, here, same, eye = layout(count, G, TILE, PACK)
    s, good = load_symmetric(cov, at, here, same, eye)
    store(
        out,
        at,
        here,
        good,
        inverse_root(s, frobenius(s, same), eye, STEPS, PRECISION),
    )


@triton.jit
def lyapunov_kernel(
    w_pointer,
    grad,
    out,
    count,
    STEPS: tl.constexpr,
    G: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """∂L/∂Σ of each matrix of a tile from W and ∂L/∂W."""
    _inner, at, here, same, eye = layout(count, G, TILE, PACK)
    w, good = load_symmetric(w_pointer, at, here, same, eye)
    g, good_g = load_symmetric(grad, at, here, same, eye)
    y = whitened_gradient(w, g, frobenius(w, same), eye, STEPS, PRECISION)
    store(out, at, here, good & good_g, both_sides(w, y, PRECISION))


def polar(cov: Tensor, steps: tuple[Step, ...], precision: str) -> Tensor:
    """W of `cov`, (B, G, G) float32, G ≤ 64; NaN for a matrix that is not finite."""
    cov = cov.contiguous()
    out = torch.empty_like(cov)
    _launch(polar_kernel, (cov, out), steps, precision)
    return out


def lyapunov(w: Tensor, grad_w: Tensor, steps: tuple[Step, ...], precision: str) -> Tensor:
    """∂L/∂Σ for `w` and `grad_w`, (B, G, G) float32, G ≤ 64; NaN for a matrix where either is not
    finite.
    """
    w = w.contiguous()
    out = torch.empty_like(w)
    _launch(lyapunov_kernel, (w, grad_w.contiguous(), out), (*steps, CUBIC), precision)
    return out


def _launch(
    kernel: triton.JITFunction, tensors: tuple[Tensor, ...], steps: tuple[Step, ...], precision: str
) -> None:
    count, group = tensors[0].shape[0], tensors[0].shape[-1]
    tile, pack = tile_of(group)
    if count:
        grid = (triton.cdiv(count, pack),)
        with on_device(tensors[0].device):
            kernel[grid](
                *tensors,
                count,
                STEPS=flat(steps),
                G=group,
                TILE=tile,
                PACK=pack,
                PRECISION=precision,
                num_warps=warps_of(tile),
            )
