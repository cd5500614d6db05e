"""The backward forms beside each other: the paper's fails where eigenvalues meet, the others do
not.
"""

import pytest
import torch
from solver_oracle import gradient, worst

from swbench import solvers
from swbench.errors import OptionError
from swbench.solvers import spectra

SPECTRAL = ("eigh", "svd", "svd-loop", "jacobi", "eigh-cpu")
ITERATIVE = ("newton", "polar", "denman-beavers", "pade")


def error(spec, spectrum, group=16, dtype=torch.float32):
    solver = solvers.get(spec)
    cov = spectra.covariances(spectrum, 8, group).to(dtype)
    grad_w = torch.randn(8, group, group, dtype=dtype)
    _, saved = solver.forward(cov)
    return worst(solver.gradient(saved, grad_w), gradient(cov, grad_w))


@pytest.mark.parametrize("name", SPECTRAL)
def test_the_papers_form_is_right_for_separated_eigenvalues(name):
    assert error(f"{name}:backward=paper", "kappa=1e2", group=4, dtype=torch.float64) < 1e-8


@pytest.mark.parametrize("name", SPECTRAL)
@pytest.mark.parametrize("spectrum", ["identity", "two-eightfold"])
def test_the_papers_form_fails_where_eigenvalues_meet(name, spectrum):
    promised = 10 * solvers.get(name).tolerance(spectra.kappa(spectrum), 16)
    assert error(name, spectrum) < promised
    assert not error(f"{name}:backward=paper", spectrum) < promised


def test_the_papers_form_loses_digits_near_a_gap():
    assert error("eigh:backward=paper", "gap=1e-4") > 100 * error("eigh", "gap=1e-4")


@pytest.mark.parametrize("name", ITERATIVE[:3])
def test_autograd_through_the_iteration_agrees_with_the_lyapunov_equation(name):
    assert error(f"{name}:backward=autograd", "kappa=1e2", group=4, dtype=torch.float64) < 1e-9
    assert error(name, "kappa=1e2", group=4, dtype=torch.float64) < 1e-9


@pytest.mark.parametrize("name", ITERATIVE)
def test_autograd_through_the_iteration_is_the_gradient_of_what_was_computed(name):
    cov = spectra.covariances("kappa=1e2", 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(
        solvers.get(name, backward="autograd"), cov, atol=1e-5, rtol=1e-3
    )


@pytest.mark.parametrize("name", ITERATIVE)
def test_autograd_through_the_iteration_keeps_a_bad_matrix_to_itself(name):
    solver = solvers.get(name, backward="autograd")
    cov = spectra.covariances("kappa=1e2", 3, 4).float()
    cov[1, 0, 0] = torch.nan
    _, saved = solver.forward(cov)
    grad = solver.gradient(saved, torch.ones(3, 4, 4))
    assert [bool(g.isfinite().all()) for g in grad] == [True, False, True]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "eigh:backward=lyapunov",
            "backward must be one of 'daleckii-krein', 'paper', not 'lyapunov'",
        ),
        ("polar:backward=paper", "backward must be one of 'lyapunov', 'autograd', not 'paper'"),
        ("newton5:backward=paper", "takes no option 'backward=paper'; it takes: steps"),
        ("svd:driver=qr", "driver must be one of"),
        ("polar:low=2", "low must lie in"),
        ("jacobi:sweeps=-1", "sweeps must be positive"),
        ("newton:steps=many", "must be int"),
        ("pade:order=0", "order must lie in"),
        ("newton5:steps=0", "steps must be at least 1"),
    ],
)
def test_invalid_option_names_the_allowed_values(spec, message):
    with pytest.raises(OptionError, match=message):
        solvers.get(spec)


def test_a_cuda_driver_is_unavailable_on_a_cpu():
    assert "use `svd`" in solvers.get("svd:driver=gesvdj").available("cpu")
