"""Derivatives of W = Σ^(-1/2) of every order, in forward and reverse mode, in operations that
autograd and torch.func support.

Training runs the closed form of each solver, in kernels that record nothing. Where a gradient is
differentiated (a gradient penalty), or under `torch.func`, the computation is repeated with the
functions here (`with_graph`), and autograd differentiates it. They are based on one primitive, the
solution of a Lyapunov equation, whose derivatives are again solutions of Lyapunov equations.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from swbench.solvers.matrices import isolate, symmetric

Solve = Callable[[Tensor], tuple[Tensor, tuple[Tensor, ...]]]
"""`Solver.forward` of one solver."""


def with_graph(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor | None],
    wanted: Sequence[bool],
    grad_output: Tensor,
) -> tuple[Tensor | None, ...]:
    """The gradients of `function` at `inputs` by autograd (None where not `wanted`). The backward
    of a Function returns them where a graph of it is needed, or a batch of gradients is propagated
    at once (`is_grads_batched`).

    Each input is passed as a new view, so that the gradient of one does not include the path
    through another that was computed from it, or that is the same tensor.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        views = [t if t is None else t.view_as(t) for t in inputs]
        requested = [t for t, is_wanted in zip(views, wanted, strict=True) if is_wanted]
        grads = iter(
            torch.autograd.grad(
                function(*views),
                requested,
                grad_output,
                create_graph=create_graph,
                allow_unused=True,
            )
        )
    return tuple(next(grads) if is_wanted else None for is_wanted in wanted)


def derivative(w: Tensor, direction: Tensor) -> Tensor:
    """The differential dW for dΣ = `direction`. It is also ∂L/∂Σ for ∂L/∂W = `direction`, because
    the map is its own adjoint.

    From W⁻² = Σ: dW = −W Y W with W Y + Y W = W sym(dΣ) W (Higham, Functions of Matrices, 2008,
    §6). `w`, `direction`: (…, G, G).
    """
    return -(w @ Lyapunov.apply(w, w @ symmetric(direction) @ w) @ w)


def in_nested_jvp() -> bool:
    """Whether a `jvp` runs within another one. There torch silently loses the derivatives of custom
    Functions (pytorch issue 197867; at least up to 2.13).
    """
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return (
        sum(interpreter.key() == torch._C._functorch.TransformType.Jvp for interpreter in stack) > 1
    )


def by_iteration(cov: Tensor) -> Tensor:
    """Σ^(-1/2) of (B, G, G) by the coupled Newton–Schulz iteration (Higham 2008, eq. 6.35) in
    operations of torch alone, which differentiate in any way. `STEPS` are enough for κ = 1e12.
    """
    norm = 1.0001 * torch.linalg.matrix_norm(cov, keepdim=True)
    y, eye = symmetric(cov) / norm, torch.eye(cov.shape[-1], dtype=cov.dtype, device=cov.device)
    z = eye
    for _ in range(STEPS):
        t = 1.5 * eye - 0.5 * z @ y
        y, z = y @ t, t @ z
    return symmetric(z) * norm.rsqrt()


STEPS = 42


class Lyapunov(torch.autograd.Function):
    """The solution Y of A Y + Y A = C for symmetric positive definite A, (…, G, G) each;
    differentiable in both any number of times.

    In the basis of eigenvectors of A the divisors are sums of eigenvalues, so that equal ones need
    no special case. A matrix that is not finite affects only its own result.
    """

    @staticmethod
    def forward(a: Tensor, c: Tensor) -> Tensor:
        safe, good = isolate(a)
        lam, d = torch.linalg.eigh(safe)
        inner = (d.mT @ c @ d) / (lam.unsqueeze(-1) + lam.unsqueeze(-2))
        return torch.where(good, d @ inner @ d.mT, torch.nan)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, y = ctx.saved_tensors
        z = Lyapunov.apply(a, grad)
        return -(z @ y.mT + y.mT @ z), z

    @staticmethod
    def jvp(ctx, da: Tensor | None, dc: Tensor | None) -> Tensor:
        a, y = ctx.saved_tensors
        change = torch.zeros_like(y) if dc is None else dc
        return Lyapunov.apply(a, change if da is None else change - da @ y - y @ da)

    @staticmethod
    def vmap(info, in_dims, *given: Tensor) -> tuple[Tensor, int]:
        batched = (
            t.unsqueeze(0).expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip(given, in_dims, strict=True)
        )
        return Lyapunov.apply(*batched), 0


class FromW(torch.autograd.Function):
    """W of a solver for (…, G, G), with derivatives of any order and mode that follow from W alone.
    `torch.func` may call it: all matrices that it passes are solved as one batch.
    """

    @staticmethod
    def forward(cov: Tensor, solve: Solve) -> Tensor:
        w, _ = solve(cov.reshape(-1, *cov.shape[-2:]))
        return w.reshape(cov.shape)

    @staticmethod
    def setup_context(ctx, _inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        return derivative(*ctx.saved_tensors, grad), None

    @staticmethod
    def jvp(ctx, d_cov: Tensor, _solve: None) -> Tensor:
        return derivative(*ctx.saved_tensors, d_cov)

    @staticmethod
    def vmap(info, in_dims, cov: Tensor, solve: Solve) -> tuple[Tensor, int]:
        return FromW.apply(cov.movedim(in_dims[0], 0), solve), 0
