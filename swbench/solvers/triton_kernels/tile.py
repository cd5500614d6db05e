"""The code that the kernels share: a tile with matrices on its diagonal is loaded, cleaned and
stored, and tiles are multiplied.

Row r of a tile belongs to matrix r // G at its row r % G. Off the diagonal blocks everything is
zero and stays zero under products. Rows beyond the last matrix hold the identity.
"""

import triton
import triton.language as tl


@triton.jit
def product(a, b, precision: tl.constexpr):
    """A B in `precision` `ieee` or `tf32x3`: single TF32, the default of `tl.dot`, breaks the
    iterations above κ = 1e3.
    """
    return tl.dot(a, b, input_precision=precision)


@triton.jit
def layout(count, G: tl.constexpr, TILE: tl.constexpr, PACK: tl.constexpr):
    """For each row of a tile its row in its matrix; and for the entries (TILE, TILE) the offsets
    into a batch, the mask of those that exist, the mask of those within one matrix, and I.
    """
    r = tl.arange(0, TILE)
    block, inner = r // G, r % G
    matrix = tl.program_id(0) * PACK + block
    same = block[:, None] == block[None, :]
    here = same & ((block < PACK) & (matrix < count))[:, None]
    at = matrix.to(tl.int64)[:, None] * (G * G) + inner[:, None] * G + inner[None, :]
    eye = (r[:, None] == r[None, :]).to(tl.float32)
    return inner, at, here, same, eye


@triton.jit
def over_matrix(rows, same):
    """For each row the sum of `rows` (TILE,) over the rows of its matrix."""
    return tl.sum(tl.where(same, rows[None, :], 0.0), 1)


@triton.jit
def load_symmetric(pointer, at, here, same, eye):
    """As `symmetric_part`, of the matrices at `pointer`."""
    return symmetric_part(tl.load(pointer + at, mask=here, other=0.0), here, same, eye)


@triton.jit
def symmetric_part(raw, here, same, eye):
    """The symmetric part of each matrix, I in place of one that is not finite (and where there is
    none), and per row whether it is finite.

    `raw` is zero off the diagonal blocks.
    """
    bad = tl.sum(tl.where(tl.abs(raw) < float("inf"), 0.0, 1.0), 1)
    good = over_matrix(bad, same) == 0.0
    exists = tl.sum(here.to(tl.float32), 1) > 0.0
    clean = tl.where((good & exists)[:, None], raw, eye)
    return 0.5 * (clean + tl.trans(clean)), good


@triton.jit
def frobenius(s, same):
    """1.0001 times the Frobenius norm of each matrix, per row; the margin is that of the torch
    solvers.
    """
    return 1.0001 * tl.sqrt(over_matrix(tl.sum(s * s, 1), same))


@triton.jit
def store(pointer, at, here, good, value):
    """Write each matrix, NaN where it was not finite."""
    tl.store(pointer + at, tl.where(good[:, None], value, float("nan")), mask=here)
