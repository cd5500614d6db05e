"""The two backward forms for solvers that hold eigenvectors: Daleckii–Krein, and eqs. (7)–(9) of
the paper's supplement.
"""

import torch
from torch import Tensor

from swbench.solvers.base import symmetric

DALECKII_KREIN, PAPER = "daleckii-krein", "paper"
FORMS = (DALECKII_KREIN, PAPER)


def daleckii_krein(lam: Tensor, d: Tensor, grad_w: Tensor) -> Tensor:
    """∂L/∂Σ = D [k ⊙ (Dᵀ sym(∂L/∂W) D)] Dᵀ with k_ij = −1 / (√λ_i √λ_j (√λ_i + √λ_j)).

    k holds the first divided differences of λ^(-1/2), written without a difference, so that equal
    eigenvalues need no special case (Daleckii and Krein 1965; Higham, Functions of Matrices, 2008,
    theorem 3.11). `lam`: (B, G) > 0, `d` and `grad_w`: (B, G, G).
    """
    root = lam.sqrt()
    ri, rj = root.unsqueeze(-1), root.unsqueeze(-2)
    k = -1 / (ri * rj * (ri + rj))
    return d @ (k * (d.mT @ symmetric(grad_w) @ d)) @ d.mT


def paper(lam: Tensor, d: Tensor, grad_w: Tensor) -> Tensor:
    """Eqs. (7)–(9) of Pan et al. 2019, supplement A, from ∂L/∂W alone, with the layouts corrected.

    W = D V with V = Λ^(-1/2) Dᵀ (eqs. 1, 2), so ∂V = Dᵀ ∂W, and D receives ∂W Vᵀ from W and (∂V)ᵀ
    Λ^(-1/2) from V.

    | equation | printed | as it holds |
    |---|---|---|
    | (7) | ∂Λ = ∂V D (−½ Λ^(-3/2)) | ∂Λ = diag(∂V D) ⊙ (−½ Λ^(-3/2)) |
    | (8) | ∂D = ∂V Λ^(-1/2) + ∂X̃ X̃ᵀ | ∂D = (∂V)ᵀ Λ^(-1/2) + ∂X̂ X̃ᵀ, where ∂X̂ X̃ᵀ = ∂W Vᵀ |
    | (9) | ∂Σ̂ = D {[Kᵀ ⊙ (Dᵀ ∂D)] + (∂Λ)_diag} Dᵀ | the symmetric part of the same |

    K_ij = 1/(σ_i − σ_j) off the diagonal: infinite where eigenvalues meet, and wrong near there.
    This is the paper's form, unchanged. `lam`: (B, G) > 0, `d` and `grad_w`: (B, G, G).
    """
    inv_root = lam.rsqrt()
    v = inv_root.unsqueeze(-1) * d.mT  # (2)
    grad_v = d.mT @ grad_w
    grad_lam = (grad_v @ d).diagonal(dim1=-2, dim2=-1) * (-0.5 * inv_root**3)  # (7)
    grad_d = grad_v.mT * inv_root.unsqueeze(-2) + grad_w @ v.mT  # (8)
    gap = lam.unsqueeze(-1) - lam.unsqueeze(-2)
    gap.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)  # K has a zero diagonal
    # (9)
    return symmetric(
        d @ (gap.reciprocal().mT * (d.mT @ grad_d) + torch.diag_embed(grad_lam)) @ d.mT
    )


def spectral_gradient(form: str, lam: Tensor, d: Tensor, grad_w: Tensor) -> Tensor:
    """The backward named `form`, one of `FORMS`. Raises ValueError for any other name."""
    if form == DALECKII_KREIN:
        return daleckii_krein(lam, d, grad_w)
    if form == PAPER:
        return paper(lam, d, grad_w)
    raise ValueError(f"backward must be one of {', '.join(FORMS)}, not {form!r}")
