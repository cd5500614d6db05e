"""What every registered solver promises. Registering is enrolling: the tests run over the table."""

import pytest
import torch
from solver_oracle import DEGENERATE, REGULAR, gradient, inverse_sqrt, worst
from torch.utils._python_dispatch import TorchDispatchMode

from swbench import solvers
from swbench.solvers import spectra

HERE = [
    name
    for name in solvers.names()
    if not name.endswith("-triton") and solvers.get(name).available("cpu") is None
]
EXACT = [name for name in HERE if solvers.get(name).exact]
FREE = [name for name in HERE if not solvers.get(name).synchronises]


def batch_of(spectrum, batch=6, group=8, dtype=torch.float32):
    cov = spectra.covariances(spectrum, batch, group).to(dtype)
    return cov, torch.randn(batch, group, group, dtype=dtype)


@pytest.mark.parametrize("group", [4, 16, 33])
@pytest.mark.parametrize("spectrum", [*REGULAR, *DEGENERATE])
@pytest.mark.parametrize("name", EXACT)
def test_errors_of_w_and_gradient_are_within_the_tolerance(name, spectrum, group):
    solver = solvers.get(name)
    cov, grad_w = batch_of(spectrum, group=group)
    promised = solver.tolerance(spectra.kappa(spectrum), group)
    w, saved = solver.forward(cov)
    assert worst(w, inverse_sqrt(cov)) < promised
    assert worst(solver.gradient(saved, grad_w), gradient(cov, grad_w)) < 10 * promised


@pytest.mark.parametrize("spectrum", ["kappa=1e2", "kappa=1e6", *DEGENERATE])
@pytest.mark.parametrize("name", EXACT)
def test_float64_error_is_that_of_float64(name, spectrum):
    solver = solvers.get(name)
    cov, grad_w = batch_of(spectrum, dtype=torch.float64)
    promised = 1e-10 if spectrum == "two-eightfold" else 1e-13 * max(spectra.kappa(spectrum), 10)
    w, saved = solver.forward(cov)
    assert worst(w, inverse_sqrt(cov)) < promised
    assert worst(solver.gradient(saved, grad_w), gradient(cov, grad_w)) < 10 * promised


@pytest.mark.parametrize("spectrum", [*DEGENERATE, "kappa=1e6"])
@pytest.mark.parametrize("name", HERE)
def test_degenerate_spectra_give_finite_results(name, spectrum):
    solver = solvers.get(name)
    cov, grad_w = batch_of(spectrum, group=16)
    w, saved = solver.forward(cov)
    assert w.isfinite().all()
    assert solver.gradient(saved, grad_w).isfinite().all()


@pytest.mark.parametrize("name", HERE)
def test_w_is_symmetric_unless_declared_otherwise(name):
    solver = solvers.get(name)
    w = solver(batch_of("kappa=1e3")[0])
    asymmetry = worst(w.mT, w.double())
    assert asymmetry < 1e-4 if solver.symmetric else asymmetry > 0.1


@pytest.mark.parametrize("spectrum", ["kappa=1e1", "identity", "two-eightfold=4"])
@pytest.mark.parametrize("name", HERE)
def test_the_gradient_is_that_of_finite_differences(name, spectrum):
    cov = spectra.covariances(spectrum, 2, 4).requires_grad_()
    solver = solvers.get(name)
    if name == "pade":  # its backward is exact where its forward is
        solver = solvers.get(name, order=12)
    assert torch.autograd.gradcheck(solver, cov, atol=1e-3 if name == "pade" else 1e-7, rtol=1e-5)


@pytest.mark.parametrize("name", HERE)
def test_a_batch_is_solved_as_each_matrix_alone(name):
    solver = solvers.get(name)
    cov, grad_w = batch_of("kappa=1e2")
    w, saved = solver.forward(cov)
    grad = solver.gradient(saved, grad_w)
    for index in range(len(cov)):
        alone, saved_alone = solver.forward(cov[index : index + 1])
        assert worst(alone, w[index : index + 1].double()) < solver.tolerance(1e2, 8)
        assert worst(
            solver.gradient(saved_alone, grad_w[index : index + 1]),
            grad[index : index + 1].double(),
        ) < 10 * solver.tolerance(1e2, 8)


@pytest.mark.parametrize("name", HERE)
def test_any_strides_give_the_same_result(name):
    solver = solvers.get(name)
    cov, _ = batch_of("kappa=1e2")
    expected = solver(cov)
    holes = torch.randn(6, 16, 16)
    holes[:, ::2, ::2] = cov
    # the batch runs fastest, as out of a channels-last product
    last = cov.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for strided in (cov.mT, holes[:, ::2, ::2], last):
        assert worst(solver(strided), expected.double()) < solver.tolerance(1e2, 8)


@pytest.mark.parametrize("name", HERE)
def test_a_covariance_of_channels_last_pixels_is_solved(name):
    x = torch.randn(2, 8, 6, 6).to(memory_format=torch.channels_last).flatten(2)
    cov = (x - x.mean(-1, keepdim=True)) @ (x - x.mean(-1, keepdim=True)).mT / 36
    solver = solvers.get(name)
    w = solver(cov)
    if solver.exact:
        assert worst(w, inverse_sqrt(cov)) < solver.tolerance(
            torch.linalg.cond(cov).max().item(), 8
        )
    assert w.isfinite().all()


@pytest.mark.parametrize("shape", [(0, 8, 8), (1, 8, 8), (8, 8), (2, 3, 8, 8), (5, 1, 1)])
@pytest.mark.parametrize("name", HERE)
def test_the_result_has_the_shape_of_the_input(name, shape):
    cov = (2 * torch.eye(shape[-1])).expand(shape).clone().requires_grad_()
    w = solvers.get(name)(cov)
    w.sum().backward()
    assert w.shape == cov.grad.shape == shape


@pytest.mark.parametrize("shape", [(3, 4, 5), (7,)])
@pytest.mark.parametrize("name", HERE)
def test_a_wrong_shape_is_a_value_error_that_names_it(name, shape):
    with pytest.raises(
        ValueError, match=rf"square matrices of shape \(B, G, G\), not \({shape[0]},"
    ):
        solvers.get(name)(torch.zeros(shape))


@pytest.mark.parametrize("name", HERE)
def test_integers_are_refused_with_the_dtypes_it_takes(name):
    with pytest.raises(ValueError, match="takes float32 and float64, not int64"):
        solvers.get(name)(torch.eye(4, dtype=torch.int64))


@pytest.mark.parametrize("name", HERE)
def test_only_the_symmetric_part_is_used(name):
    solver = solvers.get(name)
    cov, _ = batch_of("kappa=1e2", dtype=torch.float64)
    skew = torch.randn(6, 8, 8, dtype=torch.float64)
    assert worst(solver(cov + 0.1 * (skew - skew.mT)), solver(cov)) < 1e-10


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", HERE)
def test_a_nonfinite_matrix_affects_only_its_own_result(name, bad):
    solver = solvers.get(name)
    cov, grad_w = batch_of("kappa=1e2")
    clean, saved = solver.forward(cov)
    clean_grad = solver.gradient(saved, grad_w)
    cov[2, 1, 3] = bad
    w, saved = solver.forward(cov)
    grad = solver.gradient(saved, grad_w)
    others = [0, 1, 3, 4, 5]
    assert not w[2].isfinite().any()
    assert not grad[2].isfinite().all()
    assert torch.equal(w[others], clean[others])
    assert torch.equal(grad[others], clean_grad[others])


WAITS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "_linalg_check_errors",
    "aten.equal",
    "is_nonzero",
)


class _Watch(TorchDispatchMode):
    """Fails on every operation that waits for a value on a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        masks = "aten.index.Tensor" in str(func) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if masks or any(name in str(func) for name in WAITS):
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", FREE)
def test_solvers_do_not_synchronise_unless_declared(name):
    solver = solvers.get(name)
    cov, grad_w = batch_of("kappa=1e2")
    cov[1] = torch.nan
    with torch.no_grad():
        solver.forward(cov)  # tables built once may do as they like
    with torch.no_grad(), _Watch():
        _, saved = solver.forward(cov)
        solver.gradient(saved, grad_w)


@pytest.mark.parametrize("name", EXACT)
def test_a_covariance_made_indefinite_by_rounding_is_solved(name):
    cov = spectra.covariances("rank-deficient=1e-15", 6, 8).float()
    cov -= 1e-8 * torch.eye(8)
    assert solvers.get(name)(cov).isfinite().all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
@pytest.mark.parametrize("name", EXACT)
def test_w_scales_as_the_inverse_root(name, scale):
    cov, _ = batch_of("kappa=1e2")
    solver = solvers.get(name)
    assert worst(scale**0.5 * solver(scale * cov), inverse_sqrt(cov)) < solver.tolerance(1e2, 8)


@pytest.mark.parametrize("name", solvers.names())
def test_source_and_flops_are_documented(name):
    solver = solvers.TABLE.load(name)()
    assert solver.name == name
    assert len(solver.source) > 10
    assert 4 < solver.flops(32) / solver.flops(16) < 12
    assert solver.exact != bool(solver.inexact)
    assert type(solver).flops.__doc__


@pytest.mark.parametrize("name", solvers.names())
def test_a_missing_gpu_is_reported_as_unavailable(name, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert solvers.get(name).available("cuda")
    assert solvers.get(name).available("cuda:0")


@pytest.mark.parametrize(
    "waits",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0],
        torch.linalg.inv,
        torch.linalg.cholesky,
        lambda x: bool((x > 0).all()),
    ],
)
def test_the_synchronisation_watch_detects_waits(waits):
    with torch.no_grad(), _Watch(), pytest.raises(AssertionError, match="waits for the device"):
        waits(torch.eye(3).unsqueeze(0))


@pytest.mark.parametrize("name", solvers.names())
def test_devices_and_dtypes_may_be_names_or_objects(name):
    solver = solvers.get(name)
    for device in ("cpu", "cuda", "cuda:0"):
        assert solver.available(torch.device(device)) == solver.available(device)
    for dtype in ("float32", "float64", "float16"):
        assert solver.fits(16, getattr(torch, dtype)) == solver.fits(16, dtype)
