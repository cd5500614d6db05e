"""One-sided Jacobi on the Cholesky factor as a Triton kernel: the method of
`swbench.solvers.jacobi` with every rotation a product.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from swbench.solvers.triton_kernels import tile_of, warps_of
from swbench.solvers.triton_kernels.device_guard import on_device
from swbench.solvers.triton_kernels.tile import layout, load_symmetric, over_matrix, product, store


@triton.jit
def cholesky(s, inner, same, eye, floor, G: tl.constexpr):
    """Lower L with L Lᵀ = S for each matrix of a tile, a column at a time; a pivot below `floor`
    (per row) is raised to it.
    """
    factor = tl.zeros_like(s)
    for k in range(G):
        at_column = same & (inner[None, :] == k)
        at_row = same & (inner[:, None] == k)
        pivot = tl.maximum(tl.sum(tl.where(at_column, tl.sum(s * eye, 0)[None, :], 0.0), 1), floor)
        column = tl.where(inner >= k, tl.sum(tl.where(at_column, s, 0.0), 1), 0.0)
        row = tl.where(inner >= k, tl.sum(tl.where(at_row, s, 0.0), 0), 0.0)
        factor = tl.where(
            at_column, (tl.where(inner == k, pivot, column) / tl.sqrt(pivot))[:, None], factor
        )
        s = tl.where(
            same & (inner[:, None] > k) & (inner[None, :] > k),
            s - column[:, None] * row[None, :] / pivot[:, None],
            s,
        )
    return factor


@triton.jit
def partners(inner, turn, G: tl.constexpr):
    """The partner of each column in round `turn` of a round robin. Columns i and j are partners
    where i + j = turn modulo the odd count; a column that rests is its own partner.
    """
    odd: tl.constexpr = G - 1 + G % 2
    other = (turn - inner + odd) % odd
    if G % 2 == 0:
        other = tl.where(other == inner, G - 1, other)
        other = tl.where(inner == G - 1, (turn * (G // 2)) % odd, other)
    return other


@triton.jit
def jacobi_kernel(
    cov,
    w_pointer,
    lam_pointer,
    d_pointer,
    count,
    floor,
    SWEEPS: tl.constexpr,
    G: tl.constexpr,
    TILE: tl.constexpr,
    PACK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """W, eigenvalues and eigenvectors of each matrix of a tile; eigenvalues are clamped at `floor`
    times the largest.
    """
    inner, at, here, same, eye = layout(count, G, TILE, PACK)
    s, good = load_symmetric(cov, at, here, same, eye)
    trace = over_matrix(tl.sum(s * eye, 1), same)
    a = cholesky(s, inner, same, eye, floor * trace, G)
    rounds: tl.constexpr = G - 1 + G % 2
    for step in range(SWEEPS * rounds):
        meets = partners(inner, step % rounds, G)
        pair = same & (inner[:, None] == meets[None, :]) & (inner[:, None] != inner[None, :])
        gram = product(tl.trans(a), a, PRECISION)
        # both columns of a pair must see the same angle to the last bit
        gram = 0.5 * (gram + tl.trans(gram))
        squares = tl.sum(gram * eye, 1)  # per row, which is per column of A
        alpha = tl.sum(gram * eye, 0)
        beta = tl.sum(tl.where(pair, squares[:, None], 0.0), 0)
        gamma = tl.sum(tl.where(pair, gram, 0.0), 0)
        delta = beta - alpha
        denominator = tl.abs(delta) + tl.sqrt(delta * delta + 4.0 * gamma * gamma)
        side = tl.where(delta < 0.0, -1.0, 1.0)
        # of two equal columns one turns each way
        side = tl.where((delta == 0.0) & (inner > meets), -1.0, side)
        t = tl.where(
            denominator > 0.0,
            2.0 * gamma * side / tl.where(denominator > 0.0, denominator, 1.0),
            0.0,
        )
        cos = 1.0 / tl.sqrt(1.0 + t * t)
        rotation = tl.where(pair, (-cos * t)[None, :], 0.0) + eye * cos[None, :]
        a = product(a, rotation, PRECISION)
    lam = tl.sum(a * a, 0)
    largest = tl.max(tl.where(same, lam[None, :], 0.0), 1)
    d = a / tl.sqrt(tl.where(lam > 0.0, lam, 1.0))[None, :]
    lam = tl.maximum(lam, floor * tl.max(tl.where(same, largest[:, None], 0.0), 0))
    w = product(d / tl.sqrt(lam)[None, :], tl.trans(d), PRECISION)
    store(w_pointer, at, here, good, 0.5 * (w + tl.trans(w)))
    store(d_pointer, at, here, good, d)
    lam_rows = tl.sum(tl.where(eye > 0.0, lam[None, :], 0.0), 1)
    matrix = tl.program_id(0) * PACK + tl.arange(0, TILE) // G
    exists = tl.sum(here.to(tl.float32), 1) > 0.0
    tl.store(
        lam_pointer + matrix.to(tl.int64) * G + inner,
        tl.where(good, lam_rows, float("nan")),
        mask=exists,
    )


def jacobi(cov: Tensor, sweeps: int, floor: float, precision: str) -> tuple[Tensor, Tensor, Tensor]:
    """W (B, G, G), eigenvalues (B, G) and eigenvectors (B, G, G) of `cov`, float32, G ≤ 64; NaN for
    a matrix that is not finite.
    """
    cov = cov.contiguous()
    count, group = cov.shape[0], cov.shape[-1]
    tile, pack = tile_of(group)
    w, d, lam = torch.empty_like(cov), torch.empty_like(cov), cov.new_empty(cov.shape[:-1])
    if count:
        grid = (triton.cdiv(count, pack),)
        with on_device(cov.device):
            jacobi_kernel[grid](
                cov,
                w,
                lam,
                d,
                count,
                floor,
                SWEEPS=sweeps,
                G=group,
                TILE=tile,
                PACK=pack,
                PRECISION=precision,
                num_warps=warps_of(tile),
            )
    return w, lam, d
