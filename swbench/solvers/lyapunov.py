"""The backward of W = Σ^(-1/2) from W alone: a Lyapunov equation, solved by the coupled sign
iteration.
"""

import torch
from torch import Tensor

from swbench.solvers.base import symmetric
from swbench.solvers.minimax import CUBIC, Step


def lyapunov_gradient(w: Tensor, grad_w: Tensor, steps: tuple[Step, ...]) -> Tensor:
    """∂L/∂Σ = W Y W with Y W + W Y = −W sym(∂L/∂W) W, for a batch of symmetric positive definite W.

    Differentiating W⁻² = Σ gives dW W + W dW = −W² dΣ W²; the adjoint, for X = ∂L/∂Σ, is X W + W X
    = −W² sym(∂L/∂W) W², and Y = W⁻¹ X W⁻¹ is X as seen from whitened channels. The iteration solves
    for Y and not for X, because it is accurate to rounding times the norm of its solution. X has
    entries over λ^(-3/2). Those of the largest λ would drown in rounding, and any product of X with
    a covariance brings them out. The entries of Y lie close together.

    An odd polynomial p takes [[B, C], [0, −B]] to [[p(B), C'], [0, −p(B)]]; once p(B) = I, C' = 2 Y
    (Roberts 1980; Higham, Functions of Matrices, 2008, §5 and eq. 2.6 of chapter 2). C stays
    symmetric and B C − C B skew, which halves the products: seven a quintic step.

    `w`, `grad_w`: (B, G, G); `steps` the quintics that bring the spectrum of
    B = W/‖W‖_F to 1, after which `CUBIC` ends the iteration.
    """
    norm = 1.0001 * torch.linalg.matrix_norm(w, keepdim=True)
    c = torch.bmm(torch.bmm(w, symmetric(grad_w)), w).div_(-norm)
    b = w / norm
    q, t, u, v = (torch.empty_like(w) for _ in range(4))
    for index, (a1, a3, a5) in enumerate((*steps, CUBIC)):
        torch.bmm(b, b, out=q)
        torch.bmm(b, c, out=t)
        skew = t - t.mT
        if a5:
            torch.bmm(q, skew, out=t)
            skew.mul_(a3).add_(t, alpha=a5).sub_(t.mT, alpha=a5)
            torch.baddbmm(q, q, q, beta=a3, alpha=a5, out=u)
        else:
            skew.mul_(a3)
            torch.mul(q, a3, out=u)
        u.diagonal(dim1=-2, dim2=-1).add_(a1)
        torch.bmm(b, skew, out=t)
        torch.baddbmm(t, c, u, out=v)
        c = symmetric(v)
        if index < len(steps):
            torch.bmm(b, u, out=v)
            b, v = v, b
    torch.bmm(w, c, out=t)
    torch.bmm(t, w, out=v)
    return symmetric(v).mul_(0.5)
