"""The fused layers against the naive float64 layer, in Triton's interpreter or on a GPU. Collected
only by `test_triton_norms.py`, in a process of its own.
"""

import copy
import itertools

import pytest
import torch
from gradient_penalty import of_tensors, second
from norms_oracle import reference
from torch.func import functional_call
from triton_layers import DEVICE, DTYPES, LAST, compare, inputs, make
from whitening_layers import WHITENING

from swbench import solvers
from swbench.norms import kernels as kernel_sets
from swbench.norms.context import Call, Running
from swbench.solvers import cuda_capture

TWICE = [("bw", 3, False), ("swb", 1, True), ("swb", 3, True), ("swa", 3, False), ("iw", 3, True)]
"""Layers, images and modes that are differentiated twice each time; all others in the long run."""

IN_EVAL = [("bw", 1), ("swa", 3), ("swb", 3)]
"""Layers and images whose evaluation is tested each time; all others in the long run alone."""


@pytest.mark.parametrize(
    ("name", "images", "train"),
    [
        pytest.param(
            *(name, images, train),
            marks=() if train or (name, images) in IN_EVAL else pytest.mark.slow,
        )
        for name in WHITENING
        for images in (1, 3)
        for train in (True, False)
    ],
)
def test_equals_the_naive_version(name, images, train):
    layout = LAST if (images == 1) == train else torch.contiguous_format
    compare(make(name, 16, 8, train), *inputs((images, 16, 5, 9), layout=layout), 2e-4)


@pytest.mark.parametrize(
    ("name", "group", "shape"),
    [
        ("swb", 4, (2, 24, 3, 7)),  # the last tile is not full
        pytest.param("swb", 5, (2, 20, 6, 5), marks=pytest.mark.slow),
        ("swa", 16, (3, 16, 7, 7)),  # C = G, as in the last stage
        pytest.param("bw", 16, (2, 48, 6, 7), marks=pytest.mark.slow),
        ("swb", 32, (1, 32, 9, 11)),
        ("bw", 16, (3, 32, 1, 1)),
        ("swb", 8, (2, 16, 1, 1)),
    ],
)
def test_groups_and_shapes(name, group, shape):
    compare(make(name, shape[1], group, True, eps=0.1), *inputs(shape), 2e-4)


def test_the_largest_group():
    """Beside torch operations in float64: the naive layer inverts matrices of G⁴ entries."""
    layer = make("swb", 64, 64, True, eps=0.1)
    other = copy.deepcopy(layer).cpu().double()
    other.solver, other.kernels = "eigh", "torch"
    x, dy = inputs((2, 64, 5, 6))
    exact = x.cpu().double().requires_grad_()
    y, expected = layer(x.requires_grad_()), other(exact)
    actual = torch.autograd.grad(y, [x, *layer.parameters()], dy)
    expected_values = torch.autograd.grad(expected, [exact, *other.parameters()], dy.cpu().double())
    for value, right in zip((y, *actual), (expected, *expected_values), strict=True):
        scale = max(1.0, right.abs().max().item())
        torch.testing.assert_close(
            value.cpu().double() / scale, right / scale, rtol=2e-4, atol=2e-4
        )


@pytest.mark.parametrize(
    ("dtype", "layout"),
    [
        (torch.bfloat16, LAST),
        (torch.float16, torch.contiguous_format),
        pytest.param(torch.bfloat16, torch.contiguous_format, marks=pytest.mark.slow),
        pytest.param(torch.float16, LAST, marks=pytest.mark.slow),
    ],
)
def test_low_precision(dtype, layout):
    compare(make("swb", 16, 8, True), *inputs((2, 16, 6, 7), dtype, layout), DTYPES[dtype])


def test_many_parts_and_an_incomplete_last_block():
    compare(make("swb", 16, 16, True), *inputs((1, 16, 30, 31)), 2e-4)


@pytest.mark.parametrize("name", ["bw", pytest.param("swa", marks=pytest.mark.slow), "swb"])
def test_a_mean_of_many_standard_deviations(name):
    compare(make(name, 16, 8, True), *inputs((2, 16, 8, 9), offset=30.0), 2e-4)


def test_images_with_different_means():
    x, dy = inputs((2, 16, 8, 9))
    x[1] = 0.1 * x[1] + 100
    compare(make("iw", 16, 8, True), x, dy, 2e-4)


def test_low_precision_parameters_and_running_statistics():
    layer = make("swb", 16, 8, True, torch.bfloat16)
    x, dy = inputs((2, 16, 6, 7), torch.bfloat16)
    layer(x.requires_grad_()).backward(dy)
    assert all(
        p.grad.dtype == torch.bfloat16 and p.grad.isfinite().all() for p in layer.parameters()
    )


@pytest.mark.parametrize("images", [1, 2])
def test_without_affine_and_without_dx(images):
    layer = make("swb", 16, 8, True, affine=False)
    x, dy = inputs((images, 16, 6, 7))
    compare(layer, x, dy, 2e-4)
    with_dx = torch.autograd.grad(layer(x), list(layer.parameters()), dy)
    without = torch.autograd.grad(layer(x.detach()), list(layer.parameters()), dy)
    assert all(torch.equal(a, b) for a, b in zip(with_dx, without, strict=True))


@pytest.mark.parametrize("group", [16, pytest.param(8, marks=pytest.mark.slow)])
def test_a_nonfinite_image_affects_only_its_own_result(group):
    layer = make("iw", 32, group, True)
    x, dy = inputs((2, 32, 4, 5))
    clean = layer(x.requires_grad_())
    (clean_dx,) = torch.autograd.grad(clean, x, dy)
    bad = x.detach().clone()
    bad[1, 3, 1, 1] = torch.nan
    affected = layer(bad.requires_grad_())
    (affected_dx,) = torch.autograd.grad(affected, bad, dy)
    for actual, was in ((affected, clean), (affected_dx, clean_dx)):
        assert actual[1, :group].isnan().all()
        assert torch.equal(actual[0], was[0])
        assert torch.equal(actual[1, group:], was[1, group:])


def test_another_solver_uses_the_small_algebra_of_torch():
    layer = make("swb", 16, 8, True)
    layer.solver = "eigh"
    x, dy = inputs((2, 16, 5, 6))
    exact = x.cpu().double().requires_grad_()
    expected, _ = reference(copy.deepcopy(layer).cpu().double(), exact)
    y = layer(x.requires_grad_())
    assert type(y.grad_fn).__name__ == "WhiteningBackward"
    torch.testing.assert_close(y.cpu().double(), expected, rtol=2e-4, atol=2e-4)
    actual, right = (
        torch.autograd.grad(y, x, dy)[0],
        torch.autograd.grad(expected, exact, dy.cpu().double())[0],
    )
    torch.testing.assert_close(
        actual.cpu().double(), right, rtol=2e-4, atol=2e-4 * right.abs().max().item()
    )


def test_training_between_forward_and_backward_of_an_eval_call_changes_nothing():
    layer = make("swa", 16, 8, False)
    x, dy = inputs((2, 16, 4, 4))
    (expected,) = torch.autograd.grad(layer(x.requires_grad_()), x, dy)
    y = layer(x)
    layer.train()(torch.randn(2, 16, 4, 4, device=DEVICE))
    assert torch.equal(torch.autograd.grad(y, x, dy)[0], expected)


WITHOUT_AUTOGRAD = [("iw", 1, True), ("bw", 2, True), ("swa", 2, False), ("swb-tied", 2, True)]


@pytest.mark.parametrize(
    ("name", "images", "train"),
    [
        pytest.param(*case, marks=() if case in WITHOUT_AUTOGRAD else pytest.mark.slow)
        for name in ("iw", "bw", "swa", "swb-tied")
        for case in ((name, 1, True), (name, 2, True), (name, 2, False))
    ],
)
def test_forward_and_backward_without_autograd_equal_the_layer(name, images, train):
    """As compiled graphs call them: backward without running statistics at hand, with a
    workspace that is larger than it must be.
    """
    layer = make(name, 12, 4, train)  # no multiple of a line of the workspace
    other = copy.deepcopy(layer)
    x, dy = inputs((images, 12, 3, 5))
    y = layer(x.requires_grad_())
    expected = torch.autograd.grad(y, [x, *layer.parameters()], dy)
    kernels, solver = kernel_sets.named("triton"), solvers.get("polar-triton")
    running = (
        Running(other.running_mean, other.running_cov, other.momentum)
        if other.recipe.uses_batch
        else None
    )
    call = Call(other.recipe, solver, running, train)
    given = tuple(
        p if p is None else p.detach() for p in (other.weight, other.bias, *other._logits())
    )
    sizes = [kernels.workspace_size(call, n, 12, torch.float32, DEVICE) for n in (2, 3, 4)]
    assert sizes[2] - sizes[1] == sizes[1] - sizes[0]
    workspace = torch.full(
        (kernels.workspace_size(call, images, 12, torch.float32, DEVICE),), torch.nan, device=DEVICE
    )
    assert torch.equal(kernels.forward(call, x.detach(), given, workspace), y)
    actual = kernels.backward(
        Call(other.recipe, solver, None, train), dy, x.detach(), given, workspace, True
    )
    if layer.recipe.layer_index is not None and name == "swb-tied":
        actual = (*actual[:3], actual[3] + actual[4])
    grads = [g for g in actual if g is not None]
    assert all(torch.equal(a, b) for a, b in zip(grads, expected, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(layer.buffers(), other.buffers(), strict=True))


@pytest.mark.parametrize("train", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_a_compiled_graph_runs_on_the_same_kernels(train):
    layer = make("swa", 12, 4, train)
    other = copy.deepcopy(layer)
    run = torch.compile(other, fullgraph=True, backend="aot_eager")
    for x, dy in (inputs((2, 12, 3, 5)), inputs((2, 12, 3, 5))):
        y, expected = run(x.requires_grad_()), layer(x)
        assert other.chosen == layer.chosen == {"solver": "polar-triton", "kernels": "triton"}
        actual, right = (
            torch.autograd.grad(out, [x, *of.parameters()], dy)
            for out, of in ((y, other), (expected, layer))
        )
        assert all(
            torch.equal(a, b)
            for a, b in zip(
                (y, *actual, *other.buffers()), (expected, *right, *layer.buffers()), strict=True
            )
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("train", [True, False])
def test_a_trace_computes_what_the_layer_computes(train):
    """Kernels write through addresses, which no trace records: the trace is made of torch
    operations.
    """
    layer = make("swa", 8, 4, train)
    with torch.no_grad():
        traced = torch.jit.trace(copy.deepcopy(layer), inputs((1, 8, 3, 5))[0])
        traced.load_state_dict(layer.state_dict())
        x, _ = inputs((2, 8, 4, 4))
        torch.testing.assert_close(traced(x), layer(x), rtol=2e-4, atol=2e-4)
    assert layer.chosen == {"solver": "polar-triton", "kernels": "triton"}


def test_a_first_call_in_a_capture_copies_nothing_to_the_device(monkeypatch):
    """A copy from the host waits for it, which a capture forbids."""
    monkeypatch.setattr(cuda_capture, "capturing", lambda device: True)
    built = []
    monkeypatch.setattr(torch, "tensor", lambda *args, **kwargs: built.append(args))
    layer, (x, _) = make("swa", 8, 4, True), inputs((2, 8, 3, 5))
    layer.solver = "polar-triton:steps=11"  # no other test's
    layer(x.requires_grad_()).sum().backward()
    assert built == []


@pytest.mark.parametrize(
    ("name", "images", "train"),
    [
        pytest.param(*case, marks=() if case in TWICE else pytest.mark.slow)
        for case in itertools.product(WHITENING, (1, 3), (True, False))
    ],
)
def test_second_derivatives_are_those_of_torch_operations(name, images, train):
    layer = make(name, 16, 8, train)
    other = copy.deepcopy(layer)
    other.solver, other.kernels = "polar", "torch"
    x, _ = inputs((images, 16, 4, 5), layout=LAST)
    grads, expected_values = (
        second(call, x, parameters) for call, parameters in (of_tensors(layer), of_tensors(other))
    )
    assert layer.chosen == {"solver": "polar-triton", "kernels": "triton"}
    for actual, expected in zip(grads, expected_values, strict=True):
        scale = expected.abs().max().clamp(min=1)
        torch.testing.assert_close(actual / scale, expected / scale, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", ["bw", "swb"])
def test_gradients_and_statistics_are_the_same_with_create_graph(name, train):
    """Nor does what happened to the layer between the two ways."""
    layer = make(name, 16, 8, train)
    x, dy = inputs((2, 16, 4, 4))
    given = [x.requires_grad_(), *layer.parameters()]
    expected = torch.autograd.grad(layer(x), given, dy)
    y = layer(x)
    with torch.no_grad():
        layer.train()(inputs((2, 16, 4, 4))[0] + 3)
        for logits in layer._logits():
            if logits is not None:
                logits.add_(torch.rand_like(logits))
    before = [b.clone() for b in layer.buffers()]
    actual = torch.autograd.grad(y, given, dy, create_graph=True)
    for value, other in zip(actual, expected, strict=True):
        scale = other.abs().max().clamp(min=1)
        torch.testing.assert_close(value / scale, other / scale, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(layer.buffers(), before, strict=True))


def test_a_batch_of_gradients_and_negated_views():
    layer = make("swa", 16, 8, True)
    x, dy = inputs((2, 16, 3, 4))
    given = [x.requires_grad_(), *layer.parameters()]
    y = layer(x)
    expected = torch.autograd.grad(y, given, dy, retain_graph=True)
    opposite = torch.autograd.grad(y, given, torch._neg_view(dy), retain_graph=True)
    both = torch.autograd.grad(y, given, torch.stack([dy, -dy]), is_grads_batched=True)
    for right, negative, pair in zip(expected, opposite, both, strict=True):
        assert torch.equal(negative, -right)
        scale = right.abs().max().clamp(min=1)
        torch.testing.assert_close(pair[0] / scale, right / scale, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(pair[1], -pair[0])


def test_a_weight_that_is_a_negated_view():
    layer = make("swa", 16, 8, True)
    x, dy = inputs((1, 16, 3, 4))
    weight = layer.weight.detach()
    given = {"weight": torch._neg_view(weight).requires_grad_()}
    y = functional_call(layer, given, (x.requires_grad_(),))
    actual = (y, *torch.autograd.grad(y, x, dy))
    y = functional_call(layer, {"weight": -weight}, (x,))
    expected = (y, *torch.autograd.grad(y, x, dy))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
