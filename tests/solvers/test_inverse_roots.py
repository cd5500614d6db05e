"""What every solver promises of every root it gives. Registering is enrolling: the tests run over
the table.
"""

import pytest
import torch
from solver_oracle import decomposition, worst

import swbench
from swbench import solvers, suite
from swbench.solvers import spectra
from swbench.solvers.base import LOST
from swbench.solvers.iterative import UNIT
from swbench.solvers.minimax import schedule
from swbench.solvers.polar_express import PUBLISHED

HERE = [
    name
    for name in solvers.names()
    if not name.endswith("-triton") and solvers.get(name).available("cpu") is None
]
GIVEN = [
    (name, root) for name in HERE if solvers.get(name).exact for root in solvers.get(name).roots
]
ROOTS_SUITE = suite.load("roots")
OF_SUITE = tuple(dict.fromkeys(ROOTS_SUITE.base["spectrum"] + ROOTS_SUITE.full["spectrum"]))
SMALL = ("kappa=1e1", "kappa=1e4", "power-law=1e4", "dominated=1e4", "two-eightfold")
"""Up to κ = 1e4, and beside them `rank-deficient`."""


def exact(cov, root):
    lam, d = decomposition(cov)
    return (d * lam.pow(-1 / root).unsqueeze(-2)) @ d.mT


def test_every_exact_solver_gives_both_roots():
    assert {name for name, _ in GIVEN} == {name for name, root in GIVEN if root == 4}
    assert solvers.get("newton5").roots == solvers.get("cholesky").roots == (2,)


@pytest.mark.parametrize("group", [5, 32, 64])
@pytest.mark.parametrize("spectrum", [*SMALL, "rank-deficient=1e-4", "rank-deficient"])
@pytest.mark.parametrize(("name", "root"), GIVEN)
def test_root_error_is_within_the_tolerance(name, root, spectrum, group):
    solver = solvers.get(name)
    cov = spectra.covariances(spectrum, 3, group).float()
    before = cov.clone()
    kappa = spectra.kappa(spectrum)
    error = worst(solver.inverse_root(cov, root), exact(cov, root))
    assert error <= solver.tolerance(kappa, group)
    assert error <= 10 * kappa * 6e-8 * group**0.5 + 1e-5
    assert torch.equal(cov, before)  # workloads share it


@pytest.mark.parametrize("spectrum", ["kappa=1e6", "power-law=1e6", "dominated=1e6", "gradients"])
@pytest.mark.parametrize(("name", "root"), GIVEN)
def test_beyond_the_tolerance_one_digit_is_correct(name, root, spectrum):
    cov = spectra.covariances(spectrum, 3, 64).float()
    assert worst(solvers.get(name).inverse_root(cov, root), exact(cov, root)) < 0.1


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("spectrum", OF_SUITE)
def test_a_root_of_the_wrong_order_exceeds_the_tolerance_on_every_spectrum(spectrum, order):
    cov = spectra.covariances(spectrum, 3, 64).float()
    computed = exact(cov, 6 - order)
    promised = solvers.get("polar").tolerance(spectra.kappa(spectrum), 64)
    assert promised <= LOST < worst(computed, exact(cov, order))


@pytest.mark.parametrize(("name", "root"), GIVEN)
def test_float64_error_is_that_of_float64(name, root):
    cov = spectra.covariances("power-law=1e6", 3, 16)
    assert worst(solvers.get(name).inverse_root(cov, root), exact(cov, root)) < 1e-8


@pytest.mark.parametrize(("name", "root"), GIVEN)
def test_a_nonfinite_matrix_affects_only_its_own_result(name, root):
    solver = solvers.get(name)
    cov = spectra.covariances("power-law=1e2", 4, 8).float()
    clean = solver.inverse_root(cov, root)
    cov[2, 1, 3] = torch.nan
    computed = solver.inverse_root(cov, root)
    assert not computed[2].isfinite().any()
    others = [0, 1, 3]
    assert torch.equal(computed[others], clean[others])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize(("name", "root"), GIVEN)
def test_root_scales_with_the_matrix(name, root, scale):
    cov = spectra.covariances("power-law=1e2", 4, 8).float()
    computed = solvers.get(name).inverse_root(scale * cov, root)
    assert worst(scale ** (1 / root) * computed, exact(cov, root)) < 1e-3


@pytest.mark.parametrize(("name", "root"), GIVEN)
def test_least_flops_is_at_most_flops(name, root):
    solver = solvers.get(name)
    assert 2 * 64**3 <= solver.least_flops(64, root) <= solver.root_flops(64, root)
    assert root == 4 or solver.root_flops(64, 2) <= solver.flops(64)


@pytest.mark.parametrize("name", HERE)
def test_an_unsupported_root_is_a_value_error(name):
    with pytest.raises(ValueError, match=rf"solver '{name}' gives roots 2.*, not 3"):
        solvers.get(name).inverse_root(torch.eye(4).unsqueeze(0), 3)


@pytest.mark.parametrize("name", ["polar", "coupled-newton"])
@pytest.mark.parametrize("root", [2, 4])
def test_bfloat16_products_keep_two_digits_near_the_identity_and_are_inexact(name, root):
    solver = solvers.get(name, products="bfloat16")
    cov = spectra.covariances("kappa=1e1", 4, 64).float()
    assert 1e-4 < worst(solver.inverse_root(cov, root), exact(cov, root)) < 0.02
    assert not solver.exact
    assert "bfloat16" in solver.inexact


def test_a_product_of_bfloat16_is_summed_in_float32():
    from swbench.solvers.products import BFLOAT16, bmm

    a, b = (torch.randn(2, 64, 64) for _ in range(2))
    rounded = a.bfloat16().double() @ b.bfloat16().double()
    assert (bmm(a, b, BFLOAT16) - rounded).abs().max() < 1e-4
    assert (a @ b - rounded).abs().max() > 1e-3


def test_the_published_coefficients_are_the_minimax_ones_of_their_interval():
    ours, _ = schedule(1e-3, len(PUBLISHED))
    for step, published in zip(ours, PUBLISHED, strict=True):
        assert step == pytest.approx(published, rel=1e-4)


def test_a_narrower_interval_takes_fewer_products_and_ends_at_its_edge():
    wide, narrow = solvers.get("polar"), solvers.get("polar", low=1e-2)
    assert narrow.root_flops(64) < wide.root_flops(64)
    inside, outside = (
        spectra.covariances(f"kappa={kappa}", 3, 32).float() for kappa in ("1e3", "1e7")
    )
    assert worst(narrow.inverse_root(inside), exact(inside, 2)) < 1e-3
    lam = torch.linalg.eigvalsh(narrow.inverse_root(outside).double()).amax()
    assert lam < 0.5 * torch.linalg.eigvalsh(exact(outside, 2)).amax()  # under-whitened, finite


def test_coupled_newton_stops_for_each_matrix_separately():
    solver = solvers.get("coupled-newton")
    hard, easy = (spectra.covariances(name, 1, 16).float() for name in ("kappa=1e6", "kappa=1e1"))
    alone = solver.inverse_root(easy, 4)
    assert torch.equal(solver.inverse_root(torch.cat([hard, easy]), 4)[1:], alone)
    many = spectra.covariances("gradients", 1, 256).float()  # half of them are the smallest
    assert worst(solver.inverse_root(many, 2), exact(many, 2)) < 0.1
    few = solvers.get("coupled-newton", steps=3)
    assert worst(few.inverse_root(hard, 4), exact(hard, 4)) > 0.5
    coarse = solvers.get("coupled-newton", residual=0.1)
    assert not coarse.exact
    assert UNIT[torch.float32] < worst(coarse.inverse_root(easy, 4), exact(easy, 4)) < 0.1


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_every_thread_takes_a_part_of_the_batch(monkeypatch, batch):
    cov, sizes = spectra.covariances("kappa=1e2", batch, 8), []
    eigh, expected = torch.linalg.eigh, exact(cov, 2)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch.linalg, "eigh", lambda part: sizes.append(len(part)) or eigh(part))
    assert worst(solvers.get("eigh-threads")(cov), expected) < 1e-12
    assert sorted(sizes) == {1: [1], 2: [1, 1], 7: [2, 2, 3]}[batch]


def test_the_function_takes_either_root():
    cov = spectra.covariances("kappa=1e2", 6, 8).float().reshape(2, 3, 8, 8)
    assert torch.equal(swbench.inverse_root(cov), swbench.inverse_sqrt(cov))
    fourth = swbench.inverse_root(cov, 4, solver="polar")
    assert worst(fourth.flatten(0, 1), exact(cov.flatten(0, 1), 4)) < 1e-4
    assert swbench.inverse_root(cov[0, 0], 4).shape == (8, 8)


@pytest.mark.parametrize(
    ("cov", "p", "solver", "message"),
    [
        (torch.eye(4), 3, "eigh", "gives roots 2 and 4, not 3"),
        (torch.eye(4), 4, "newton5", "gives roots 2, not 4"),
        (torch.zeros(3, 4), 4, "eigh", r"square matrices of shape \(B, G, G\), not \(3, 4\)"),
        (torch.eye(4, dtype=torch.int64), 4, "eigh", "takes float32 and float64, not int64"),
        (torch.eye(4, requires_grad=True), 4, "eigh", "has no gradient for p = 4"),
    ],
)
def test_invalid_options_are_value_errors(cov, p, solver, message):
    with pytest.raises(ValueError, match=message):
        swbench.inverse_root(cov, p, solver=solver)
