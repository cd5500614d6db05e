"""Layers on Triton kernels beside the naive float64 layer; for tests that run in Triton's
interpreter or on a GPU.
"""

import copy
import os

import torch
from norms_oracle import reference
from whitening_layers import WHITENING

DEVICE = os.environ.get("SWBENCH_TEST_DEVICE", "cpu")
DTYPES = {torch.float32: 2e-4, torch.bfloat16: 2e-2, torch.float16: 2e-2}
LAST = torch.channels_last


def make(name, channels, group, train, dtype=torch.float32, **options):
    """The layer with random parameters and running statistics, on Triton kernels."""
    cls, given = WHITENING[name]
    layer = (
        cls(channels, group, solver="polar-triton", kernels="triton", **given, **options)
        .to(DEVICE, dtype)
        .train(train)
    )
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.5)
        if layer.recipe.uses_batch:
            layer.running_mean.normal_()
            root = torch.randn(channels // group, group, 3 * group)
            layer.running_cov.copy_(root @ root.mT / (3 * group))
    return layer


def inputs(shape, dtype=torch.float32, layout=torch.contiguous_format, offset=0.0):
    """Channels that are correlated, and far from zero by `offset` deviations."""
    n, c, h, w = shape
    mixing = torch.eye(c) + 0.3 * torch.randn(c, c) / c**0.5
    x = (
        torch.einsum("dc,nchw->ndhw", mixing, torch.randn(n, c, h, w))
        + offset * torch.randn(1, c, 1, 1).sign()
    )
    return tuple(
        t.to(DEVICE, dtype).contiguous(memory_format=layout) for t in (x, torch.randn(shape))
    )


def compare(layer, x, dy, tolerance):
    """Output, running statistics and every gradient against the naive twin in float64."""
    exact = x.cpu().double().contiguous().requires_grad_()
    parameters = {
        name: p.detach().cpu().double().requires_grad_() for name, p in layer.named_parameters()
    }
    running = {name: b.cpu().double() for name, b in layer.named_buffers()}
    expected, batch = reference(copy.deepcopy(layer).cpu().double(), exact, **parameters)
    x = x.requires_grad_()
    y = layer(x)
    assert layer.chosen == {"solver": "polar-triton", "kernels": "triton"}
    assert type(y.grad_fn).__name__ == "FusedWhiteningBackward"
    assert (y.dtype, y.stride()) == (x.dtype, x.stride())
    actual = torch.autograd.grad(y, [x, *layer.parameters()], dy)
    expected_values = torch.autograd.grad(
        expected, [exact, *parameters.values()], dy.cpu().double()
    )
    pairs = {
        "y": (y, expected),
        **{
            name: pair
            for name, *pair in zip(("x", *parameters), actual, expected_values, strict=True)
        },
    }
    share = 0.99 if layer.training else 1.0
    for (name, before), value in zip(running.items(), batch, strict=False):
        pairs[name] = (getattr(layer, name), share * before + (1 - share) * value.detach())
    for name, (actual, expected) in pairs.items():
        scale = max(1.0, expected.abs().max().item())
        torch.testing.assert_close(
            actual.cpu().double() / scale,
            expected / scale,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, name=name: f"{name}: {m}",
        )
