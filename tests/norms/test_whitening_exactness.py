"""The closed form equals the naive autograd version: outputs, running statistics and every
gradient, in float64.
"""

import pytest
import torch
from norms_oracle import reference
from torch.func import functional_call

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def gradients(y, dy, x, layer):
    names = [name for name, _ in layer.named_parameters()]
    grads = torch.autograd.grad(y, [x, *layer.parameters()], dy, allow_unused=True)
    return dict(zip(["x", *names], grads, strict=True))


def compare(layer, x, tolerance):
    """Output, running statistics and all gradients of `layer` on `x` against the naive twin in
    float64.
    """
    x = x.requires_grad_()
    exact = x.detach().double().contiguous().requires_grad_()
    parameters = {
        name: p.detach().double().requires_grad_() for name, p in layer.named_parameters()
    }
    expected, (batch_mean, batch_cov) = reference(layer, exact, **parameters)
    before = {name: b.clone() for name, b in layer.named_buffers()}
    y = layer(x)
    torch.testing.assert_close(y.double(), expected, rtol=tolerance, atol=tolerance)
    if before:
        share = 0.99 if layer.training else 1.0
        for name, batch in (("running_mean", batch_mean), ("running_cov", batch_cov)):
            now = share * before[name].double() + (1 - share) * batch.detach()
            torch.testing.assert_close(
                getattr(layer, name).double(), now, rtol=tolerance, atol=tolerance
            )
    dy = torch.randn_like(expected)
    actual = gradients(y, dy.to(y.dtype), x, layer)
    expected_values = torch.autograd.grad(expected, [exact, *parameters.values()], dy)
    for (name, gradient), right in zip(actual.items(), expected_values, strict=True):
        scale = max(1.0, right.abs().max().item())
        torch.testing.assert_close(
            gradient.double() / scale,
            right / scale,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, name=name: f"{name}: {m}",
        )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("images", [1, 3])
def test_equals_the_naive_version(make, images, train, layout):
    x = (torch.randn(images, 8, 3, 5, dtype=torch.float64) * 2 + 1).contiguous(memory_format=layout)
    compare(make(train=train), x, 1e-10)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("images", [1, 2])
def test_gradcheck(make, images, train):
    layer = make(train=train)
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    x = torch.randn(images, 8, 2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        call, (x, *(p.detach().requires_grad_() for p in layer.parameters())), fast_mode=False
    )


def white(images):
    """Covariance exactly I in every image: all eigenvalues equal."""
    signs = torch.tensor([[1.0]], dtype=torch.float64)
    for _ in range(4):
        signs = torch.cat([torch.cat([signs, signs], 1), torch.cat([signs, -signs], 1)])
    return torch.cat([signs[1:5], signs[5:9]]).view(1, 8, 4, 4).repeat(images, 1, 1, 1)


def constant_channels(images):
    x = torch.randn(images, 8, 4, 4, dtype=torch.float64)
    x[:, ::2] = torch.tensor([1.0, -2.0, 0.5, 4.0], dtype=torch.float64).view(1, 4, 1, 1)
    return x


def equal_images(images):
    return torch.randn(1, 8, 4, 4, dtype=torch.float64).repeat(images, 1, 1, 1)


DEGENERATE = {
    "white": white,
    "constant channels": constant_channels,
    "all constant": lambda images: torch.full((images, 8, 4, 4), 3.0, dtype=torch.float64),
    "equal images": equal_images,
    "one pixel": lambda images: torch.randn(images, 8, 1, 1, dtype=torch.float64),
}


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_input_is_right_in_float64(make, case, images):
    compare(make(eps=1e-3), DEGENERATE[case](images), 1e-10)


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("case", ["white", "all constant", "equal images"])
def test_degenerate_input_is_right_in_float32(make, case, images):
    compare(make(dtype=torch.float32, eps=1e-3), DEGENERATE[case](images).float(), 2e-4)


@pytest.mark.parametrize("case", DEGENERATE)
def test_degenerate_input_is_finite_in_float32(make, case):
    layer = make(dtype=torch.float32)
    x = DEGENERATE[case](2).float().requires_grad_()
    y = layer(x)
    y.backward(torch.randn_like(y))
    assert y.isfinite().all()
    assert all(t.grad.isfinite().all() for t in (x, *layer.parameters()))


def test_inputs_without_requires_grad_get_no_gradient(make):
    layer = make().requires_grad_(False)
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad is not None
    layer.requires_grad_(True)
    layer(x.detach()).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_without_affine(make):
    layer = make(affine=False)
    assert "weight" not in dict(layer.named_parameters())
    compare(layer, torch.randn(2, 8, 3, 5, dtype=torch.float64), 1e-10)
