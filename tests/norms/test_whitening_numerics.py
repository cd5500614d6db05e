"""How exactly the layers whiten: W (Σ̂ + εI) Wᵀ = I, means of many standard deviations, low
precision, autocast.
"""

import copy

import pytest
import torch
from norms_oracle import reference

from swbench import solvers
from swbench.norms import kernels as kernel_sets
from swbench.norms.context import Call, Running
from swbench.norms.kernels import kernels_for
from swbench.norms.kernels.algebra import Parameters
from swbench.norms.kernels.pass_by_pass import gather, shift_of
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d


def coloured(images, channels, side, kappa, dtype=torch.float64):
    """Images whose channels are mixed by a matrix of condition number √kappa."""
    q, _ = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64))
    deviations = torch.logspace(
        0, -torch.log10(torch.tensor(kappa)).item() / 2, channels, dtype=torch.float64
    )
    x = q @ (
        deviations.unsqueeze(-1)
        * (q.T @ torch.randn(channels, images * side * side, dtype=torch.float64))
    )
    return x.view(channels, images, side, side).transpose(0, 1).contiguous().to(dtype)


def solve(layer, x):
    """W (n, g, G, G) of `layer` on `x`, and the Σ̂ + εI it came from, in float64."""
    recipe, kernels, solver = layer.recipe, kernels_for(x), solvers.get("eigh")
    taken = []

    class Spy(type(solver)):
        def forward(self, cov):
            taken.append(cov)
            return super().forward(cov)

    running = (
        Running(layer.running_mean, layer.running_cov, layer.momentum)
        if recipe.uses_batch
        else None
    )
    call = Call(recipe, Spy(), running, layer.training)
    logits = [None if p is None else p.detach() for p in layer._logits()]
    solved = kernels.mix_and_solve(
        recipe,
        call.solver,
        gather(kernels, call, x, shift_of(x, x.dtype)),
        Parameters(None, None, *logits),
    )
    return solved.w.flatten(0, 1).double(), taken[0].double()


@pytest.mark.parametrize(
    ("dtype", "kappa", "level"),
    [
        (torch.float64, 1e3, 1e-10),
        (torch.float32, 1e1, 2e-5),
        (torch.float32, 1e3, 2e-4),
        (torch.float32, 1e5, 1e-2),
    ],
)
def test_whitens(make, dtype, kappa, level):
    """The float32 levels are those measured for eigh at G = 16, with room for the spread over
    spectra.
    """
    layer = make(32, 16, dtype=dtype, eps=1e-8)
    w, cov = solve(layer, coloured(2, 32, 16, kappa, dtype))
    eye = torch.eye(16, dtype=torch.float64)
    assert (w @ cov @ w.mT - eye).flatten(1).norm(dim=1).max() < level


def test_the_output_of_instance_whitening_is_white():
    layer = InstanceWhiten2d(16, 16, eps=1e-12, affine=False)
    y = layer(coloured(2, 16, 12, 100.0)).flatten(2)
    torch.testing.assert_close(
        y @ y.mT / 144, torch.eye(16, dtype=torch.float64).expand(2, 16, 16), rtol=0, atol=1e-8
    )


@pytest.mark.parametrize("ratio", [0, 30, 300])
def test_accurate_with_a_mean_of_many_standard_deviations(make, ratio):
    layer = make(16, 16, dtype=torch.float32)
    x = coloured(2, 16, 16, 100.0)
    x = (
        x + ratio * x.std() * torch.randn(16, dtype=torch.float64).sign().view(1, 16, 1, 1)
    ).float()
    with torch.no_grad():
        expected, _ = reference(layer.double(), x.double())
        actual = layer.float()(x)
    assert ((actual - expected).norm() / expected.norm()).item() < 1e-5 * max(1, ratio / 10)


@pytest.mark.parametrize("offset", [30.0, 1000.0])
@pytest.mark.parametrize("kernels", kernel_sets.names())
def test_accurate_with_different_means_of_images(kernels, offset):
    """A bright image with little contrast beside a dark one: what the first image's mean hides is a
    hundredth of the second's rounding.
    """
    layer = InstanceWhiten2d(16, 16, kernels=kernels)
    x = torch.randn(2, 16, 16, 16)
    if not kernel_sets.named(kernels).takes(x):
        pytest.skip("not available here")
    x[1] = 0.1 * x[1] + offset
    dy, exact = torch.randn_like(x), x.double().requires_grad_()
    expected, _ = reference(copy.deepcopy(layer).double(), exact)
    expected.backward(dy.double())
    x.requires_grad_()
    y = layer(x)
    y.backward(dy)
    for actual, right in ((y, expected), (x.grad, exact.grad)):
        assert ((actual - right).norm() / right.norm()).item() < 2e-6 * offset


def test_a_padded_border_does_not_affect_the_shift():
    x = (torch.randn(1, 16, 9, 9, dtype=torch.float64) + 1000).float()
    border = torch.ones(9, 9, dtype=torch.bool)
    border[1:-1, 1:-1] = False
    x[..., border] *= 0.4
    assert (shift_of(x, x.dtype) - 1000).abs().max() < 10


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_low_precision_input_has_float32_statistics(make, dtype, layout):
    layer = make(dtype=torch.float32)
    x = (torch.randn(2, 8, 6, 6) + 10).to(dtype).contiguous(memory_format=layout).requires_grad_()
    exact = x.detach().double().contiguous().requires_grad_()
    expected, _ = reference(copy.deepcopy(layer).double(), exact)
    dy = torch.randn(2, 8, 6, 6).to(dtype)
    y = layer(x)
    y.backward(dy)
    (expected_values,) = torch.autograd.grad(expected, exact, dy.double())
    assert y.dtype == x.grad.dtype == dtype
    assert layer.weight.grad.dtype == torch.float32
    torch.testing.assert_close(y.double(), expected, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(
        x.grad.double(), expected_values, rtol=1e-2, atol=1e-2 * expected_values.abs().max().item()
    )


def test_low_precision_parameters(make):
    layer = make(dtype=torch.bfloat16)
    x = torch.randn(2, 8, 6, 6, dtype=torch.bfloat16, requires_grad=True)
    layer(x).sum().backward()
    assert all(p.grad.dtype == torch.bfloat16 for p in layer.parameters())


def test_autocast_does_not_affect_the_statistics():
    layer = BatchWhiten2d(16, 16)
    x = torch.randn(2, 16, 6, 6)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = layer(x)
    assert torch.equal(actual, expected)
