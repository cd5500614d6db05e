"""Solvers differentiated more than once, forward, and under the transforms of torch.func."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

from swbench import inverse_sqrt, solvers
from swbench.solvers import spectra

# of torch's own making of dual tensors
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")

HERE = [
    name
    for name in solvers.names()
    if not name.endswith("-triton") and solvers.get(name).available("cpu") is None
]
EXACT = [name for name in HERE if solvers.get(name).exact]
SPECTRA = ["kappa=1e1", "identity", "two-eightfold=4"]


def by_eigenvectors(cov):
    """Σ^(-1/2) by autograd's own derivative of `eigh`, which is finite where eigenvalues differ."""
    lam, d = torch.linalg.eigh(0.5 * (cov + cov.mT))
    return (d * lam.rsqrt().unsqueeze(-2)) @ d.mT


def loss(root):
    """A function of Σ whose derivatives have no symmetry."""
    weight = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    return lambda cov: (root(cov) * weight).sin().sum()


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("name", HERE)
def test_the_gradient_is_differentiable_in_both_modes(name, spectrum):
    solver = solvers.get(name, order=12) if name == "pade" else solvers.get(name)
    cov = spectra.covariances(spectrum, 2, 4).requires_grad_()
    ways = {"fast_mode": True, "atol": 1e-3 if name == "pade" else 1e-5}
    assert gradgradcheck(solver, cov, check_fwd_over_rev=True, check_batched_grad=True, **ways)
    assert gradcheck(solver, cov, check_forward_ad=True, check_batched_grad=True, **ways)


@pytest.mark.parametrize("name", ["eigh", "polar", "newton5"])
def test_every_entry_of_the_second_derivative(name):
    assert gradgradcheck(solvers.get(name), spectra.covariances("kappa=1e1", 1, 3).requires_grad_())


@pytest.mark.parametrize("name", EXACT)
def test_second_derivatives_are_those_of_the_function(name):
    cov = spectra.covariances("kappa=1e1", 1, 4)
    expected = hessian(loss(by_eigenvectors))(cov)
    of_solver = loss(solvers.get(name))
    for outer in (jacfwd, jacrev):
        for inner in (jacfwd, jacrev):
            torch.testing.assert_close(outer(inner(of_solver))(cov), expected, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        torch.autograd.functional.hessian(of_solver, cov), expected, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", HERE)
def test_gradients_are_the_same_with_create_graph(name):
    cov = spectra.covariances("kappa=1e2", 3, 4).requires_grad_()
    w = solvers.get(name)(cov)
    dy = torch.randn_like(w)
    plain, with_graph = (
        torch.autograd.grad(w, cov, dy, create_graph=create, retain_graph=True)[0]
        for create in (False, True)
    )
    assert with_graph.requires_grad
    assert not plain.requires_grad
    torch.testing.assert_close(plain, with_graph, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", HERE)
def test_transforms_of_torch_func(name, dtype):
    solver, covs = (
        solvers.get(name),
        spectra.covariances("kappa=1e1", 6, 4).to(dtype).view(3, 2, 4, 4),
    )
    one_by_one = torch.stack([solver(cov) for cov in covs])
    torch.testing.assert_close(vmap(solver)(covs), one_by_one)
    torch.testing.assert_close(vmap(solver, 1, 1)(covs.transpose(0, 1)), one_by_one.transpose(0, 1))
    gradients = torch.stack([grad(lambda c: solver(c).square().sum())(cov) for cov in covs])
    torch.testing.assert_close(vmap(grad(lambda c: solver(c).square().sum()))(covs), gradients)
    leaf = covs[0].clone().requires_grad_()
    solver(leaf).square().sum().backward()
    close = {"rtol": 1e-3, "atol": 1e-3} if name == "pade" or dtype is torch.float32 else {}
    torch.testing.assert_close(leaf.grad, gradients[0], **close)
    tangent = torch.randn_like(covs[0])
    _, moved = jvp(solver, (covs[0],), (tangent,))
    weight = torch.randn_like(moved)
    (pulled,) = torch.func.vjp(solver, covs[0])[1](weight)
    torch.testing.assert_close((moved * weight).sum(), (tangent * pulled).sum(), **close)


def test_a_nonfinite_matrix_affects_only_its_own_second_derivative():
    cov = spectra.covariances("kappa=1e1", 3, 4)
    cov[1, 0, 0] = torch.nan
    cov.requires_grad_()
    (first,) = torch.autograd.grad(inverse_sqrt(cov, "polar").sum(), cov, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), cov)
    for gradient in (first, second):
        assert [bool(g.isfinite().all()) for g in gradient] == [True, False, True]
