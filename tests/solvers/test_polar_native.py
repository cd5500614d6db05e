"""polar-native on every instruction set of this machine: exactness, isolation, threads, and what it
hands to Jacobi or to polar.
"""

import pytest
import torch
from solver_oracle import gradient, inverse_sqrt, worst

from swbench import solvers
from swbench.native import library
from swbench.solvers import spectra

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))
SETS = ["v4", "v3", "generic"]


@pytest.fixture(params=SETS)
def solver(request):
    if library.missing() is None and library.select(request.param) is None:
        pytest.skip(f"no {request.param} here")
    yield solvers.get("polar-native")
    library.select()


@pytest.mark.parametrize("group", [1, 3, 4, 7, 8, 11, 16, 24, 32, 47, 64])
def test_every_size_and_layout(solver, group):
    cov, grad_w = (
        spectra.covariances("kappa=1e3", 21, group).float() * 7,
        torch.randn(21, group, group),
    )
    w, saved = solver.forward(cov)
    promised = solver.tolerance(1e3, group)
    assert len(saved) == 2
    assert torch.equal(w, w.mT)
    assert worst(w, inverse_sqrt(cov)) < promised
    assert worst(solver.gradient(saved, grad_w), gradient(cov, grad_w)) < 10 * promised


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_scale_does_not_matter(solver, scale):
    cov = (spectra.covariances("kappa=1e2", 20, 16) * scale).float()
    assert worst(solver.forward(cov)[0], inverse_sqrt(cov)) < solver.tolerance(1e2, 16)


@pytest.mark.parametrize("group", [8, 16])
def test_a_degenerate_matrix_affects_only_its_own_result(solver, group):
    cov, grad_w = spectra.covariances("kappa=1e2", 20, group).float(), torch.randn(20, group, group)
    clean, saved = solver.forward(cov)
    clean_gradient = solver.gradient(saved, grad_w)
    cov[3, 0, 0], cov[7, 1, 2], cov[9] = torch.nan, torch.inf, 0
    w, saved = solver.forward(cov)
    affected_gradient = solver.gradient(saved, grad_w)
    bad = torch.tensor([i in (3, 7, 9) for i in range(20)])
    assert w[bad].isnan().all()
    assert not affected_gradient[bad].isfinite().any()
    torch.testing.assert_close(w[~bad], clean[~bad], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(affected_gradient[~bad], clean_gradient[~bad], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("group", [8, 16])
def test_an_indefinite_matrix_is_clamped_as_by_eigh(solver, group):
    lam = torch.linspace(1, 2, group, dtype=torch.float64)
    lam[0] = -1e-3
    basis = torch.linalg.qr(torch.randn(5, group, group, dtype=torch.float64))[0]
    cov = ((basis * lam) @ basis.mT).float()
    w, _ = solver.forward(cov)
    torch.testing.assert_close(w, solvers.get("eigh").forward(cov)[0], rtol=1e-3, atol=1e-1)


def test_does_not_depend_on_threads(solver):
    count = 80  # enough that the team is woken (threads.c)
    cov, grad_w = spectra.covariances("kappa=1e3", count, 16).float(), torch.randn(count, 16, 16)
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        w, saved = solver.forward(cov)
        results.append((w, solver.gradient(saved, grad_w)))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    "cov", [torch.eye(8, dtype=torch.float64).repeat(2, 1, 1), 2 * torch.eye(80).repeat(2, 1, 1)]
)
def test_inputs_that_c_does_not_take_run_on_polar(cov):
    solver = solvers.get("polar-native")
    w, saved = solver.forward(cov)
    assert len(saved) == 1
    torch.testing.assert_close(w, solvers.get("polar").forward(cov)[0])
    torch.testing.assert_close(
        solver.gradient(saved, cov), solvers.get("polar").gradient(saved, cov)
    )


def test_available_only_on_a_cpu():
    assert solvers.get("polar-native").available("cpu") is None
    assert "use polar" in solvers.get("polar-native").available("cuda")
