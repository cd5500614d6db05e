"""What is kept from one call to the next never outlives what it rests on: settings, buffers,
parameters, the kind of input.
"""

import copy
import dataclasses
import pickle
import re

import pytest
import torch
from torch.autograd import forward_ad
from torch.nn.utils import parametrize

from swbench.native import library
from swbench.norms import layers
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d
from swbench.norms.sync_convert import convert_sync_whitening

X = torch.randn(2, 8, 4, 5, generator=torch.Generator().manual_seed(0))


def fresh(layer):
    """A layer with the same state that was never called."""
    built = SwitchWhiten2d(
        8, 4, solver=layer.solver, kernels=layer.kernels, momentum=layer.momentum
    )
    built.load_state_dict(layer.state_dict())
    built.recipe = layer.recipe
    return built.to(layer.weight.dtype).train(layer.training)


def agrees(layer, x=X):
    reference = fresh(layer)
    assert torch.equal(layer(x), reference(x))
    assert layer.chosen == reference.chosen
    for mine, other in zip(layer.buffers(), reference.buffers(), strict=True):
        assert torch.equal(mine, other)


def reassign(layer):
    layer.load_state_dict(
        {name: value + 0.5 for name, value in layer.state_dict().items()}, assign=True
    )


def replace_memory(layer):
    """As optimisers and sharding wrappers do: the tensors stay, what they hold lies elsewhere."""
    for buffer in layer.buffers():
        old = buffer.data_ptr()
        buffer.data = buffer.data.clone().add_(0.25)
        assert buffer.data_ptr() != old


def set_memory(layer):
    for buffer in layer.buffers():
        buffer.set_(buffer.clone().add_(0.25))


def swap(layer):
    for name in ("running_mean", "running_cov"):
        torch.utils.swap_tensors(getattr(layer, name), getattr(layer, name).clone().add_(0.25))


def through(convert):
    """`_apply`, which makes new buffers."""

    def change(layer):
        for step in convert:
            step(layer)

    return change


def load_swapping(layer):
    state = {name: value + 0.5 for name, value in layer.state_dict().items()}
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        layer.load_state_dict(state)
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)


def trace(layer):
    torch.jit.trace(layer, X, check_trace=False)


def compile_with_another(layer):
    solver, layer.solver = layer.solver, "newton"
    torch.compile(layer, backend="eager")(X)
    layer.solver = solver


CHANGES = {
    "traced": trace,
    "compiled": compile_with_another,
    "another recipe": lambda layer: setattr(
        layer, "recipe", dataclasses.replace(layer.recipe, eps=0.5)
    ),
    "other memory": replace_memory,
    "other storage": set_memory,
    "swapped": swap,
    "shared memory": lambda layer: layer.share_memory(),
    "a state dict that swaps": load_swapping,
    "there and back": through([torch.nn.Module.double, torch.nn.Module.float]),
    "moved": through(
        [lambda layer: layer.to(torch.float64), lambda layer: layer.to("cpu", torch.float32)]
    ),
    "applied": lambda layer: layer._apply(lambda tensor: tensor + 0.5),
    "a copy of its own": lambda layer: layer.__setstate__(copy.deepcopy(layer).__getstate__()),
    "eval": lambda layer: layer.eval(),
    "solver": lambda layer: setattr(layer, "solver", "eigh"),
    "kernels": lambda layer: setattr(layer, "kernels", "torch"),
    "momentum": lambda layer: setattr(layer, "momentum", 0.5),
    "new buffers": reassign,
    "a buffer moved": lambda layer: setattr(layer, "running_mean", layer.running_mean + 1),
    "parameters in place": lambda layer: layer.weight.data.mul_(3),
}


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("solver", ["auto", "eigh"])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_takes_effect_in_the_next_call(change, solver, train):
    layer = SwitchWhiten2d(8, 4, solver=solver).train(train)
    layer(X)
    CHANGES[change](layer)
    agrees(layer)
    agrees(layer)


def test_a_network_that_has_run_may_be_converted_to_ranks_and_back(monkeypatch):
    def refuse_call(group):
        raise LookupError(group)

    layer = SwitchWhiten2d(8, 4)
    layer(X)
    monkeypatch.setattr(layers, "ranks_of", refuse_call)
    layer(X)  # without a group there are no ranks to ask for
    convert_sync_whitening(layer)
    with pytest.raises(LookupError, match="world"):
        layer(X)
    layer.process_group = None
    layer(X)


def test_statistics_made_noncontiguous_are_read_correctly():
    layer = SwitchWhiten2d(8, 4).eval()
    factor = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        layer(X)
        # not symmetric, so that a wrong order would be seen
        layer.running_cov.data = (factor @ torch.diag(torch.arange(1.0, 5.0))).mT
        assert not layer.running_cov.is_contiguous()
        torch.testing.assert_close(layer(X), fresh(layer)(X))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_statistics_cast_in_place_are_read_correctly(dtype):
    layer = SwitchWhiten2d(8, 4).eval()
    with torch.no_grad():
        expected = layer(X)
        for buffer in layer.buffers():
            buffer.data = buffer.data.to(dtype)
        torch.testing.assert_close(layer(X), expected)


@pytest.mark.parametrize("name", ["running_mean", "running_cov"])
@pytest.mark.parametrize("train", [True, False])
def test_statistics_of_another_shape_are_refused_and_never_read(name, train):
    layer = SwitchWhiten2d(8, 4).train(train)
    layer(X)
    shape = tuple(getattr(layer, name).shape)
    getattr(layer, name).data = torch.zeros(1)
    with pytest.raises(
        ValueError, match=re.escape(f"{name} must have the shape {shape}, not (1,)")
    ):
        layer(X)
    getattr(layer, name).data = torch.zeros(shape[::-1])
    with pytest.raises(ValueError, match=re.escape(f"{name} must have the shape {shape}")):
        layer(X)


@pytest.mark.parametrize("name", ["weight", "bias", "sw_mean_weight", "sw_var_weight"])
@pytest.mark.parametrize("called", [True, False])
def test_parameters_of_another_size_are_refused_and_never_read(name, called):
    if library.missing() is not None:
        pytest.skip(library.missing())
    layer = SwitchWhiten2d(8, 4, solver="polar-native", kernels="native")
    if called:
        layer(X)
    getattr(layer, name).data = torch.ones(1)
    with pytest.raises(ValueError, match=f"{name} must have . entries, not the shape"):
        layer(X)


def test_statistics_on_another_device_are_refused():
    layer = SwitchWhiten2d(8, 4)
    layer(X)
    layer.running_cov = layer.running_cov.to("meta")
    with pytest.raises(RuntimeError, match="meta"):
        layer(X)


def test_a_shallow_copy_and_its_original_may_both_be_called():
    layer = SwitchWhiten2d(8, 4)
    layer(X)
    other = copy.copy(layer)
    other(X)
    agrees(other)
    agrees(layer)


def test_functional_call_updates_only_the_given_statistics():
    layer = SwitchWhiten2d(8, 4)
    layer(X)
    before = {name: value.clone() for name, value in layer.named_buffers()}
    given = {name: value.clone().add_(0.5) for name, value in layer.named_buffers()}
    before_call = {name: value.clone() for name, value in given.items()}
    torch.func.functional_call(layer, given, (X,))
    for name, value in layer.named_buffers():
        assert torch.equal(value, before[name])
        assert not torch.equal(given[name], before_call[name])
    agrees(layer)


def test_dtypes_and_layouts_may_alternate():
    layer = SwitchWhiten2d(8, 4)
    for x in (
        X,
        X.bfloat16(),
        X.contiguous(memory_format=torch.channels_last),
        X[..., ::2],
        X[:1],
        X,
    ):
        agrees(layer, x)
    agrees(layer.double(), X.double())


def test_a_parametrised_weight_is_used():
    class Doubled(torch.nn.Module):
        def forward(self, weight):
            return 2 * weight

    layer = BatchWhiten2d(8, 4)
    expected = 2 * layer(X)
    parametrize.register_parametrization(layer, "weight", Doubled())
    torch.testing.assert_close(layer(X), expected)


@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["deepcopy", "pickle"],
)
def test_a_copy_updates_its_own_statistics(copied):
    layer = SwitchWhiten2d(8, 4)
    layer(X)
    before, other = layer.running_mean.clone(), copied(layer)
    other(X + 1)
    assert torch.equal(layer.running_mean, before)
    assert not torch.equal(other.running_mean, before)


def shrunk(layer):
    for parameter in layer.parameters():
        parameter.data = torch.ones(1)


@pytest.mark.parametrize(
    "changed",
    [
        lambda layer: layer.bfloat16(),
        lambda layer: layer.double(),
        lambda layer: layer.to("meta"),
        shrunk,
    ],
    ids=["bfloat16", "float64", "meta", "shrunk"],
)
def test_gradients_use_the_parameters_of_the_forward_pass(changed):
    """C writes as many float32 as the layer had; into a gradient made like a parameter of now it
    would write past the end, or elsewhere.
    """
    if library.missing() is not None:
        pytest.skip(library.missing())
    layer, dy, x = (
        SwitchWhiten2d(8, 4, kernels="native"),
        torch.randn_like(X),
        X.clone().requires_grad_(),
    )
    inputs = [x, *layer.parameters()]
    expected = torch.autograd.grad(layer(x), inputs, dy)
    y = layer(x)
    changed(layer)
    y.backward(dy)
    for leaf, gradient in zip(inputs, expected, strict=True):
        assert torch.equal(leaf.grad, gradient)


def test_a_saved_tensor_unpacked_with_another_dtype_is_refused():
    if library.missing() is not None:
        pytest.skip(library.missing())
    layer = SwitchWhiten2d(8, 4, kernels="native")
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.half(), lambda t: t):
        y = layer(X.clone().requires_grad_())
    with pytest.raises(RuntimeError, match="came back with another shape, dtype or device"):
        y.sum().backward()


def test_a_layer_pickled_by_an_older_version_runs():
    """Older ones kept what was ready for their calls, and were pickled without or with it empty."""
    older = SwitchWhiten2d.__new__(SwitchWhiten2d)
    padding = {"_ready": {}, "_given": ("weight", "bias"), "_padding": (), "_solvers": {}}
    older.__setstate__(SwitchWhiten2d(8, 4).__getstate__() | padding)
    assert torch.equal(older(X), SwitchWhiten2d(8, 4)(X))


def test_a_parametrised_parameter_is_computed_once_a_call():
    class Counting(torch.nn.Module):
        calls = 0

        def forward(self, weight):
            Counting.calls += 1
            return weight

    layer = SwitchWhiten2d(8, 4)
    parametrize.register_parametrization(layer, "weight", Counting())
    wide = torch.randn(2, 8, 4, 10)[..., ::2]
    layer(wide)
    Counting.calls = 0
    layer(wide)
    assert Counting.calls == 1


@pytest.mark.parametrize("grad", [True, False])
def test_a_cached_call_falls_back_under_other_tensor_modes(grad):
    class Marked(torch.Tensor):
        pass

    class Marking(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), options=None):
            built = function(*arguments, **options or {})
            return built.as_subclass(Marked) if function is torch.empty_like else built

    layer = SwitchWhiten2d(8, 4).eval()
    expected = layer(X)
    with torch.set_grad_enabled(grad), Marking():
        y = layer(X)
    torch.testing.assert_close(y.as_subclass(torch.Tensor), expected)


# of torch's own making of dual tensors
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("called", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_forward_mode_tangents_are_propagated(grad, called):
    layer = SwitchWhiten2d(8, 4)
    if called:
        layer(X)
    other = copy.deepcopy(layer).double()
    step = 1e-6 * torch.ones_like(X).double().cumsum(-1)
    expected = (other(X.double() + step) - other(X.double() - step)) / 2e-6
    with torch.set_grad_enabled(grad), forward_ad.dual_level():
        y = layer(forward_ad.make_dual(X, 1e6 * step.float()))
        tangent = forward_ad.unpack_dual(y).tangent
    torch.testing.assert_close(tangent.double(), expected, rtol=1e-3, atol=1e-3)


def test_results_are_the_same_with_and_without_gradients():
    layer = SwitchWhiten2d(8, 4).eval()
    with torch.no_grad():
        without = layer(X)
    assert not without.requires_grad
    assert torch.equal(layer(X), without)


def test_a_layer_on_another_device_is_refused():
    """Kernels get addresses: one of another device would end the process."""
    with pytest.raises(RuntimeError, match="the input is on cpu, tensors of the layer on meta"):
        BatchWhiten2d(8, 4).to("meta")(X)
    layer = InstanceWhiten2d(8, 4)
    layer(X)
    layer.weight = torch.nn.Parameter(torch.ones(8, device="meta"))
    with pytest.raises(RuntimeError, match=r"device|meta"):
        layer(X)
