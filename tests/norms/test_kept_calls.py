"""What a layer keeps ready between calls never outlives what it rests on: settings, buffers, parameters, the kind of input."""

import copy
import pickle

import pytest
import torch
from torch.nn.utils import parametrize

from swbench.norms.layers import KINDS, BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d

X = torch.randn(2, 8, 4, 5, generator=torch.Generator().manual_seed(0))


def fresh(layer):
    """A layer with the same state that was never called."""
    made = SwitchWhiten2d(8, 4, solver=layer.solver, kernels=layer.kernels, momentum=layer.momentum)
    made.load_state_dict(layer.state_dict())
    return made.to(layer.weight.dtype).train(layer.training)


def agrees(layer, x=X):
    twin = fresh(layer)
    assert torch.equal(layer(x), twin(x))
    assert layer.chosen == twin.chosen
    for mine, other in zip(layer.buffers(), twin.buffers(), strict=True):
        assert torch.equal(mine, other)


def reassign(layer):
    layer.load_state_dict({name: value + 0.5 for name, value in layer.state_dict().items()}, assign=True)


CHANGES = {
    "eval": lambda layer: layer.eval(),
    "solver": lambda layer: setattr(layer, "solver", "eigh"),
    "kernels": lambda layer: setattr(layer, "kernels", "torch"),
    "momentum": lambda layer: setattr(layer, "momentum", 0.5),
    "new buffers": reassign,
    "a buffer moved": lambda layer: setattr(layer, "running_mean", layer.running_mean + 1),
    "parameters in place": lambda layer: layer.weight.data.mul_(3),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_counts_in_the_next_call(change):
    layer = SwitchWhiten2d(8, 4)
    layer(X)
    CHANGES[change](layer)
    agrees(layer)


def test_dtypes_and_layouts_may_alternate():
    layer = SwitchWhiten2d(8, 4)
    for x in (X, X.bfloat16(), X.contiguous(memory_format=torch.channels_last), X[..., ::2], X[:1], X):
        agrees(layer, x)
    agrees(layer.double(), X.double())


def test_a_parametrised_weight_is_found():
    class Doubled(torch.nn.Module):
        def forward(self, weight):
            return 2 * weight

    layer = BatchWhiten2d(8, 4)
    want = 2 * layer(X)
    parametrize.register_parametrization(layer, "weight", Doubled())
    torch.testing.assert_close(layer(X), want)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))], ids=["deepcopy", "pickle"])
def test_a_copy_moves_statistics_of_its_own(copied):
    layer = SwitchWhiten2d(8, 4)
    layer(X)
    before, other = layer.running_mean.clone(), copied(layer)
    other(X + 1)
    assert torch.equal(layer.running_mean, before)
    assert not torch.equal(other.running_mean, before)


def test_with_and_without_gradients_it_is_the_same():
    layer = SwitchWhiten2d(8, 4).eval()
    with torch.no_grad():
        without = layer(X)
    assert not without.requires_grad
    assert torch.equal(layer(X), without)


def test_a_layer_that_is_elsewhere_is_refused():
    """Kernels get addresses: one of another device would end the process."""
    with pytest.raises(RuntimeError, match="the input is on cpu, tensors of the layer on meta"):
        BatchWhiten2d(8, 4).to("meta")(X)
    layer = InstanceWhiten2d(8, 4)
    layer(X)
    layer.weight = torch.nn.Parameter(torch.ones(8, device="meta"))
    with pytest.raises(RuntimeError, match=r"device|meta"):
        layer(X)


def test_it_keeps_no_more_than_so_many_kinds():
    layer = BatchWhiten2d(8, 4)
    for width in range(1, KINDS + 10):
        layer(torch.randn(1, 8, 1, width))
    assert len(layer._ready) <= KINDS
