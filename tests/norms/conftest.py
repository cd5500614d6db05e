"""Layers with random parameters and running statistics, by name; and a compiler without memory."""

import pytest
import torch
from whitening_layers import WHITENING


@pytest.fixture(params=WHITENING)
def make(request):
    """A function that makes the layer: `make(channels, group, train=…, dtype=…, **options)`."""
    cls, given = WHITENING[request.param]

    def layer(channels=8, group=4, train=True, dtype=torch.float64, **options):
        built = cls(channels, group, solver="eigh", **given, **options).to(dtype).train(train)
        with torch.no_grad():
            for parameter in built.parameters():
                parameter.copy_(torch.rand_like(parameter) + 0.5)
            if built.recipe.uses_batch:
                built.running_mean.normal_()
                root = torch.randn(channels // group, group, 3 * group, dtype=dtype)
                built.running_cov.copy_(root @ root.mT / (3 * group))
        return built

    layer.cls, layer.options = cls, given
    return layer


@pytest.fixture
def fresh_compiler():
    """Nothing compiled or counted before the test, and nothing left of it."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
