"""Layers differentiated twice, forward, and under the transforms of torch.func, against the naive
layer, whose Σ^(-1/2) is autograd's own derivative of `eigh`.
"""

import copy

import norms_oracle
import pytest
import torch
from gradient_penalty import of_tensors, second
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, stack_module_state, vmap
from whitening_layers import WHITENING

from swbench import solvers
from swbench.native import library
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d

# of torch's own making of dual tensors
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
EXACT = [
    name
    for name in solvers.names()
    if not name.endswith("-triton")
    and solvers.get(name).exact
    and solvers.get(name).available("cpu") is None
]


def by_eigenvectors(cov):
    lam, d = torch.linalg.eigh(cov)
    return (d * lam.rsqrt().unsqueeze(-2)) @ d.mT


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("images", [1, 3])
def test_second_derivatives_are_the_naive_layers(make, images, train, monkeypatch):
    monkeypatch.setattr(norms_oracle, "inverse_root", by_eigenvectors)
    layer = make(train=train)
    x = torch.randn(images, 8, 3, 5, dtype=torch.float64) * 2 + 1
    call, parameters = of_tensors(layer)
    for actual, expected in zip(
        second(call, x, parameters),
        second(of_tensors(layer, naive=True)[0], x, parameters),
        strict=True,
    ):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("images", [1, 2])
def test_gradgradcheck_forward_and_batched(make, images, train):
    call, parameters = of_tensors(make(train=train))
    inputs = (torch.randn(images, 8, 2, 4, dtype=torch.float64, requires_grad=True), *parameters)
    assert gradcheck(call, inputs, check_forward_ad=True, check_batched_grad=True, fast_mode=True)
    assert gradgradcheck(
        call, inputs, check_fwd_over_rev=True, check_batched_grad=True, fast_mode=True
    )


@pytest.mark.parametrize("solver", EXACT)
def test_gradgradcheck_with_every_exact_solver(solver):
    for images in (1, 2):
        layer = SwitchWhiten2d(4, 2, sw_type=5, solver=solver).double()
        call, parameters = of_tensors(layer)
        x = torch.randn(images, 4, 2, 3, dtype=torch.float64, requires_grad=True)
        assert gradgradcheck(call, (x, *parameters), fast_mode=True)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", WHITENING)
def test_in_float32_on_the_native_kernels(name, train):
    if library.missing() is not None:
        pytest.skip(library.missing())
    cls, given = WHITENING[name]
    layer = cls(8, 4, solver="polar-native", kernels="native", **given).train(train)
    with torch.no_grad():
        for tensor in (*layer.parameters(), *layer.buffers()):
            tensor.add_(0.1 * torch.rand_like(tensor))
        if layer.recipe.uses_batch:
            layer.running_cov.add_(layer.running_cov.clone().mT)
    exact = copy.deepcopy(layer).double()
    exact.solver, exact.kernels = "eigh", "torch"
    x = torch.randn(3, 8, 5, 5)
    actual_values, exact_values = (
        second(call, of, parameters)
        for of, (call, parameters) in ((x, of_tensors(layer)), (x.double(), of_tensors(exact)))
    )
    for actual, expected in zip(actual_values, exact_values, strict=True):
        scale = expected.abs().max().clamp(min=1)
        torch.testing.assert_close(actual.double() / scale, expected / scale, rtol=1e-3, atol=1e-3)
    assert layer.chosen == {"solver": "polar-native", "kernels": "native"}


@pytest.mark.parametrize("kernels", ["torch", "native"])
@pytest.mark.parametrize("train", [True, False])
def test_gradients_and_statistics_are_the_same_with_create_graph(kernels, train):
    """Nor does what happened to the layer between the two ways."""
    if kernels == "native" and library.missing() is not None:
        pytest.skip(library.missing())
    layer = SwitchWhiten2d(8, 4, sw_type=5, kernels=kernels).train(train)
    x = torch.randn(2, 8, 4, 4, requires_grad=True)
    inputs, dy = [x, *layer.parameters()], torch.randn(2, 8, 4, 4)
    expected = torch.autograd.grad(layer(x), inputs, dy)
    y = layer(x)
    with torch.no_grad():
        layer.train()(torch.randn(2, 8, 4, 4) + 3)
        for parameter in layer.parameters() if kernels == "native" else ():
            parameter.mul_(1.5)  # torch keeps what it saved from being changed
    before = [b.clone() for b in layer.buffers()]
    actual = torch.autograd.grad(y, inputs, dy, create_graph=True)
    for gradient, expected_gradient in zip(actual, expected, strict=True):
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-4)
    for buffer, buffer_before in zip(layer.buffers(), before, strict=True):
        assert torch.equal(buffer, buffer_before)


def test_a_weight_computed_from_the_input_is_differentiated():
    layer = SwitchWhiten2d(8, 4, solver="eigh").double()

    def call(x):
        return functional_call(layer, {"weight": x.mean((0, 2, 3)).exp()}, (x,))

    x = torch.randn(2, 8, 2, 3, dtype=torch.float64, requires_grad=True)
    assert gradgradcheck(call, (x,), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transforms_in_eval_mode(make, dtype):
    layer = make(train=False, dtype=dtype)
    x = torch.randn(4, 8, 3, 5, dtype=dtype)
    y = layer(x)
    close = {"rtol": 1e-3, "atol": 1e-3} if dtype is torch.float32 else {}
    alone = vmap(lambda image: layer(image.unsqueeze(0)).squeeze(0))
    torch.testing.assert_close(alone(x), y, **close)
    torch.testing.assert_close(
        vmap(lambda image: layer(image.unsqueeze(0)).squeeze(0), in_dims=3, out_dims=3)(
            x.permute(1, 2, 3, 0)
        ),
        y.permute(1, 2, 3, 0),
        **close,
    )
    moved = torch.randn_like(x)
    value, tangent = jvp(layer, (x,), (moved,))
    torch.testing.assert_close(value, y, **close)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, moved)))
        torch.testing.assert_close(dual.tangent, tangent, **close)
    leaf, dy = x.clone().requires_grad_(), torch.randn_like(y)
    (pulled,) = torch.autograd.grad(layer(leaf), leaf, dy)
    torch.testing.assert_close((pulled * moved).sum(), (dy * tangent).sum(), **close)
    torch.testing.assert_close(grad(lambda x: (layer(x) * dy).sum())(x), pulled, **close)


def test_gradients_of_every_sample(make):
    layer = make(train=False)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    buffers = {name: b.detach() for name, b in layer.named_buffers()}
    x = torch.randn(3, 8, 3, 4, dtype=torch.float64)

    def loss(parameters, image):
        return functional_call(layer, (parameters, buffers), (image.unsqueeze(0),)).sin().sum()

    grads = vmap(grad(loss), in_dims=(None, 0))(parameters, x)
    for index, image in enumerate(x):
        layer.zero_grad()
        layer(image.unsqueeze(0)).sin().sum().backward()
        for name, parameter in layer.named_parameters():
            torch.testing.assert_close(grads[name][index], parameter.grad)


def test_second_derivatives_of_torch_func_in_any_order():
    layer = SwitchWhiten2d(4, 2, solver="eigh").double().eval()
    x = torch.randn(1, 4, 2, 2, dtype=torch.float64)

    def loss(x):
        return layer(x).sin().sum()

    expected = torch.autograd.functional.hessian(loss, x)
    for outer in (jacfwd, jacrev):
        for inner in (jacfwd, jacrev):
            torch.testing.assert_close(outer(inner(loss))(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("cls", [BatchWhiten2d, SwitchWhiten2d, torch.nn.BatchNorm2d])
def test_vmap_over_training_with_running_statistics_is_refused(cls):
    layer, x = cls(16), torch.randn(2, 3, 16, 4, 4)
    with pytest.raises(RuntimeError, match="track_running_stats"):
        vmap(layer)(x)
    with pytest.raises(RuntimeError, match="mutate a captured Tensor"):
        grad(lambda x: layer(x).sum())(x[0])
    without = cls(16, track_running_stats=False)
    torch.testing.assert_close(vmap(without)(x), torch.stack([without(image) for image in x]))
    assert vmap(grad(lambda x: without(x).sin().sum()))(x).isfinite().all()


def test_an_ensemble_updates_the_statistics_of_each_member():
    members = [BatchWhiten2d(8, 4, solver="eigh").double() for _ in range(3)]
    for member in members:
        member.weight.data.uniform_(0.5, 2)
    x = torch.randn(3, 2, 8, 4, 4, dtype=torch.float64)
    parameters, buffers = stack_module_state(members)
    y = vmap(lambda p, b, x: functional_call(members[0], (p, b), (x,)))(parameters, buffers, x)
    for index, member in enumerate(members):
        torch.testing.assert_close(y[index], member(x[index]))
        for name, buffer in member.named_buffers():
            torch.testing.assert_close(buffers[name][index], buffer)


def test_an_instance_layer_may_train_under_vmap():
    layer, x = InstanceWhiten2d(8, 4, solver="eigh").double(), torch.randn(3, 8, 4, 4).double()
    torch.testing.assert_close(vmap(layer)(x), layer(x))


def test_transforms_are_refused_with_a_process_group():
    layer = BatchWhiten2d(8, 4, process_group="world")
    with pytest.raises(RuntimeError, match="communicates in training"):
        grad(lambda x: layer(x).sum())(torch.randn(2, 8, 3, 3))
