"""What single solvers are: the ones that do not converge to Σ^(-1/2) do what they are named for,
coefficients are the best ones.
"""

import numpy as np
import pytest
import torch
from solver_oracle import inverse_sqrt, worst

from swbench import solvers
from swbench.solvers import jacobi, minimax, pade, spectra
from swbench.solvers.iterative import quintics


@pytest.mark.parametrize(("group", "variance"), [(16, 0.97), (32, 0.82), (64, 0.59)])
def test_newton5_leaves_white_input_at_the_variance_of_the_public_code(group, variance):
    w = solvers.get("newton5")(torch.eye(group))
    assert w.diagonal().square().mean().item() == pytest.approx(variance, abs=0.01)


def test_newton5_is_the_five_steps_written_out():
    cov = spectra.covariances("kappa=1e2", 4, 8)
    trace = cov.diagonal(dim1=-2, dim2=-1).sum(-1).view(-1, 1, 1)
    p = torch.eye(8, dtype=torch.float64).expand_as(cov)
    for _ in range(5):
        p = 1.5 * p - 0.5 * p @ p @ p @ (cov / trace)
    assert worst(solvers.get("newton5")(cov), p / trace.sqrt()) < 1e-12


def test_more_uncoupled_steps_diverge_and_coupled_ones_do_not():
    cov = spectra.covariances("kappa=1e3", 8, 16).float()
    assert not worst(solvers.get("newton5", steps=40)(cov), inverse_sqrt(cov)) < 1
    assert worst(solvers.get("newton", steps=40)(cov), inverse_sqrt(cov)) < 1e-3


def test_cholesky_whitens_and_is_not_zca():
    cov = spectra.covariances("kappa=1e2", 4, 8).float()
    w = solvers.get("cholesky")(cov)
    assert (
        worst(w @ cov @ w.mT + torch.eye(8), 2 * torch.eye(8, dtype=torch.float64).expand(4, 8, 8))
        < 1e-4
    )
    assert worst(w, inverse_sqrt(cov)) > 0.1
    assert not solvers.get("cholesky").exact


def test_pade_is_right_near_the_identity_and_under_whitens_away_from_it():
    near, far = spectra.covariances("kappa=1.5", 4, 4), spectra.covariances("kappa=1e3", 4, 16)
    assert worst(solvers.get("pade")(near), inverse_sqrt(near)) < 1e-4
    smallest = torch.linalg.eigvalsh(solvers.get("pade")(far)).amax(-1)
    assert (smallest < 0.9 * torch.linalg.eigvalsh(inverse_sqrt(far)).amax(-1)).all()


@pytest.mark.parametrize("order", [1, 3, 5])
def test_pade_coefficients_match_the_series_of_the_root(order):
    p, q = pade.coefficients(order)
    root = [1.0]
    for n in range(2 * order):
        root.append(root[-1] * (n - 0.5) / (n + 1))
    product = np.convolve(root, q)[: 2 * order + 1]
    assert product == pytest.approx([*p, *([0.0] * order)], abs=1e-12)


def test_a_quintic_equioscillates_at_four_points():
    a, b, c = minimax.best_quintic(0.1, 1.0)
    x = np.linspace(0.1, 1.0, 100001)
    error = 1 - (a * x + b * x**3 + c * x**5)
    extrema = [error[0], *error[1:-1][(np.diff(error)[:-1] * np.diff(error)[1:]) < 0], error[-1]]
    assert len(extrema) == 4
    assert np.abs(extrema) == pytest.approx(np.full(4, np.abs(error).max()), rel=1e-6)
    assert (
        np.sign(extrema[0]) == -np.sign(extrema[1]) == np.sign(extrema[2]) == -np.sign(extrema[3])
    )


def test_no_other_quintic_does_better():
    best = np.array(minimax.best_quintic(0.2, 1.0))
    x = np.linspace(0.2, 1.0, 2001)
    powers = np.stack([x, x**3, x**5])
    height = np.abs(1 - best @ powers).max()
    generator = np.random.default_rng(0)
    for nudge in generator.normal(size=(200, 3)) * 1e-2:
        assert np.abs(1 - (best + nudge) @ powers).max() > height


def test_a_schedule_ends_at_the_stated_interval():
    steps, left = minimax.schedule(1e-3, 7)
    x = np.geomspace(1e-3, 1, 5001)
    for a, b, c in steps:
        x = a * x + b * x**3 + c * x**5
    assert np.abs(1 - x).max() == pytest.approx(left, abs=1e-12)
    assert left < 1e-8


@pytest.mark.parametrize("group", [3, 4, 5, 45, 53, 70, 90])
def test_a_schedule_with_a_narrow_last_interval_converges(group):
    """Of these the equations of the last step are singular in float64."""
    for low, unit in ((1e-3, 2.0**-24), (1e-6, 2.0**-53)):
        steps = minimax.steps_needed(low / group**0.5, unit)
        assert minimax.schedule(low / group**0.5, steps)[1] <= unit


def test_float32_takes_seven_quintics_and_float64_more():
    assert len(quintics(torch.float32)) == 7
    assert len(quintics(torch.float64)) > 10
    assert len(quintics(torch.float32, low=0.1)) < 7


@pytest.mark.parametrize(("low", "steps"), [(0.0, 3), (1.0, 3), (0.1, 0)])
def test_an_impossible_schedule_is_refused(low, steps):
    with pytest.raises(ValueError, match="0 < low < 1"):
        minimax.schedule(low, steps)


def test_polar_for_a_narrow_interval_needs_fewer_products():
    cov = spectra.covariances("kappa=1e1", 4, 8).float()
    short = solvers.get("polar:low=0.05")
    assert short.flops(8) < solvers.get("polar").flops(8)
    assert worst(short(cov), inverse_sqrt(cov)) < 1e-5


def test_polar_under_whitens_beyond_its_interval_and_does_not_diverge():
    cov = spectra.covariances("kappa=1e10", 4, 8)
    largest = torch.linalg.eigvalsh(solvers.get("polar", low=1e-3, steps=7)(cov)).amax(-1)
    assert (largest < 0.2e5).all()
    assert (largest > 1e2).all()


@pytest.mark.parametrize("half", [1, 2, 3, 8, 17])
def test_every_pair_of_columns_meets_once_a_sweep(half):
    line, met = torch.arange(2 * half), []
    for _ in range(2 * half - 1):
        met += [
            frozenset(pair) for pair in zip(line[:half].tolist(), line[half:].tolist(), strict=True)
        ]
        line = line[jacobi._turn(half)]
    assert len(met) == len(set(met)) == half * (2 * half - 1)


def test_svd_loop_decomposes_one_matrix_at_a_time(monkeypatch):
    shapes, svd = [], torch.linalg.svd
    monkeypatch.setattr(
        torch.linalg, "svd", lambda a, **options: shapes.append(a.shape) or svd(a, **options)
    )
    solvers.get("svd-loop")(spectra.covariances("kappa=1e2", 3, 4))
    assert shapes == [(4, 4)] * 3


def test_the_host_solver_counts_its_transfers():
    solver = solvers.get("eigh-cpu")
    assert solver.transferred_bytes(torch.empty(10, 8, 8)) == 0
    assert solver.transferred_bytes(torch.empty(10, 8, 8, device="meta")) == 4 * (2 * 640 + 80)
    assert solvers.get("eigh").transferred_bytes(torch.empty(10, 8, 8, device="meta")) == 0
