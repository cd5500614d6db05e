"""The Triton kernels in Triton's interpreter, or on the GPU that SWBENCH_TEST_DEVICE names.
Collected only by `test_triton_kernels.py`, in a process of its own.
"""

import os

import pytest
import torch
from solver_oracle import gradient, inverse_sqrt, worst

from swbench import solvers
from swbench.solvers import spectra

DEVICE = os.environ.get("SWBENCH_TEST_DEVICE", "cpu")


def batch_of(spectrum, batch, group):
    cov, grad_w = spectra.covariances(spectrum, batch, group), torch.randn(batch, group, group)
    return cov.float().to(DEVICE), grad_w.to(DEVICE)


@pytest.mark.parametrize(
    ("name", "group", "spectrum"),
    [
        *(("polar-triton", group, "kappa=1e4") for group in (2, 4, 5, 8, 16, 33, 64)),
        ("polar-triton", 8, "two-eightfold"),
        ("polar-triton", 16, "identity"),
        ("jacobi-triton", 2, "kappa=1e3"),
        ("jacobi-triton", 4, "kappa=1e4"),
        ("jacobi-triton", 4, "two-eightfold"),
        ("jacobi-triton", 5, "identity"),
        ("jacobi-triton", 8, "kappa=1e2"),
    ],
)
def test_errors_of_w_and_gradient_are_within_the_tolerance(name, group, spectrum):
    solver = solvers.get(name)
    assert solver.available(DEVICE) is None
    cov, grad_w = batch_of(spectrum, 5 if group < 8 else 3, group)  # the last tile is not full
    w, saved = solver.forward(cov)
    promised = solver.tolerance(spectra.kappa(spectrum), group)
    assert worst(w.cpu(), inverse_sqrt(cov.cpu())) < promised
    actual = solver.gradient(saved, grad_w).cpu()
    assert worst(actual, gradient(cov.cpu(), grad_w.cpu())) < 10 * promised
    assert torch.equal(w, w.mT)


@pytest.mark.parametrize("name", ["polar-triton", "jacobi-triton"])
def test_a_nonfinite_matrix_affects_only_its_own_result_in_a_shared_tile(name):
    solver = solvers.get(name, **({"sweeps": 2} if name.startswith("jacobi") else {}))
    cov, grad_w = batch_of("kappa=1e1", 4, 4)
    clean, saved = solver.forward(cov)
    clean_grad = solver.gradient(saved, grad_w)
    cov[1, 0, 2], cov[2, 3, 3] = torch.nan, torch.inf
    w, saved = solver.forward(cov)
    grad = solver.gradient(saved, grad_w)
    assert not w[1:3].isfinite().any()
    assert not grad[1:3].isfinite().any()
    assert torch.equal(w[[0, 3]], clean[[0, 3]])
    assert torch.equal(grad[[0, 3]], clean_grad[[0, 3]])


def test_matrices_in_a_tile_have_separate_norms():
    cov, _ = batch_of("kappa=1e1", 4, 4)
    scale = torch.tensor([1e-4, 1.0, 1e4, 1.0], device=DEVICE).view(-1, 1, 1)
    w = solvers.get("polar-triton")(scale * cov) * scale.sqrt()
    assert worst(w.cpu(), inverse_sqrt(cov.cpu())) < 1e-5


def test_the_kernel_takes_the_same_steps_as_the_torch_solver():
    cov, grad_w = batch_of("kappa=1e2", 3, 8)
    kernel, plain = solvers.get("polar-triton"), solvers.get("polar")
    w, saved = kernel.forward(cov)
    other, other_saved = plain.forward(cov)
    assert worst(w, other.double()) < 3e-6
    assert (
        worst(kernel.gradient(saved, grad_w), plain.gradient(other_saved, grad_w).double()) < 1e-4
    )


@pytest.mark.parametrize("name", ["polar-triton", "jacobi-triton"])
def test_an_empty_batch_and_strides_are_taken(name):
    solver = solvers.get(name, **({"sweeps": 4} if name.startswith("jacobi") else {}))
    assert solver(torch.empty(0, 4, 4, device=DEVICE)).shape == (0, 4, 4)
    cov, _ = batch_of("kappa=1e1", 3, 4)
    last = cov.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(solver(last), solver(cov))


def test_a_covariance_made_indefinite_by_rounding_is_solved():
    cov = spectra.covariances("rank-deficient=1e-15", 3, 4).float()
    cov = (cov - 1e-8 * torch.eye(4)).to(DEVICE)
    assert solvers.get("jacobi-triton")(cov).isfinite().all()
    assert solvers.get("polar-triton")(cov).isfinite().all()


@pytest.mark.parametrize("name", ["polar-triton", "jacobi-triton"])
def test_a_group_larger_than_a_tile_is_refused(name):
    with pytest.raises(ValueError, match="G up to 64, not 65"):
        solvers.get(name)(torch.eye(65, device=DEVICE).unsqueeze(0))
