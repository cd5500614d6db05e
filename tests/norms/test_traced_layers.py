"""A traced layer is the layer for any input: nothing that it does is left out of the trace, on
whatever kernels it runs otherwise.
"""

import contextlib
import copy
import io

import pytest
import torch
from whitening_layers import WHITENING

from swbench import solvers
from swbench.norms.layers import BatchWhiten2d, SwitchWhiten2d

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
GRAD = {"with gradients": contextlib.nullcontext, "without": torch.no_grad}


def built(name, train, **options):
    cls, given = WHITENING[name]
    layer = cls(8, 4, **given, **options).train(train)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.rand_like(parameter) + 0.5)
        if layer.recipe.uses_batch:
            layer.running_mean.normal_()
            root = torch.randn(2, 4, 12)
            layer.running_cov.copy_(root @ root.mT / 12)
    return layer


def traced_and_layer(layer, x):
    """The trace of a copy of `layer` at `x`, with the layer's own running statistics, which tracing
    moved.
    """
    traced = torch.jit.trace(copy.deepcopy(layer), x)
    traced.load_state_dict(layer.state_dict())
    return traced


def agree(actual, expected):
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("grad", GRAD)
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("name", WHITENING)
def test_a_trace_runs_on_another_input_size(name, train, grad):
    layer = built(name, train)
    with GRAD[grad]():
        traced = traced_and_layer(layer, torch.randn(1, 8, 6, 5))
        for shape in ((1, 8, 6, 5), (3, 8, 7, 9)):
            x = 3 * torch.randn(shape) + 1
            agree(traced(x), layer(x))
    for actual, expected in zip(traced.buffers(), layer.buffers(), strict=True):
        agree(actual, expected)
        assert not actual.requires_grad


@pytest.mark.parametrize("grad", GRAD)
@pytest.mark.parametrize("name", ["bw", "swb"])
def test_gradients(name, grad):
    layer, x, dy = built(name, True), torch.randn(3, 8, 6, 5), torch.randn(3, 8, 6, 5)
    with GRAD[grad]():
        traced = traced_and_layer(layer, torch.randn(2, 8, 4, 4))
    for actual, expected in zip(
        *(
            torch.autograd.grad(of(x.requires_grad_()), [x, *of.parameters()], dy)
            for of in (traced, layer)
        ),
        strict=True,
    ):
        agree(actual, expected)


def test_a_trace_can_be_saved():
    layer, file, x = built("swa", False), io.BytesIO(), torch.randn(2, 8, 4, 4)
    torch.jit.save(torch.jit.trace(layer, torch.randn(1, 8, 5, 5)), file)
    file.seek(0)
    agree(torch.jit.load(file)(x), layer(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_and_layout(dtype):
    layer = built("swa", False).to(dtype)
    x = torch.randn(2, 8, 4, 6, dtype=dtype).contiguous(memory_format=torch.channels_last)
    y, expected = traced_and_layer(layer, x)(x + 1), layer(x + 1)
    torch.testing.assert_close(y, expected)
    assert y.stride() == expected.stride()


@pytest.mark.parametrize(
    ("solver", "chosen"),
    [("polar-native", "polar"), ("newton:steps=9", "newton:steps=9"), ("auto", None)],
)
def test_chosen_reports_the_traced_solver(solver, chosen):
    layer = SwitchWhiten2d(8, 4, solver=solver)
    # which calls the layer itself
    torch.jit.trace(layer, torch.randn(2, 8, 4, 4), check_trace=False)
    assert layer.chosen["kernels"] == "torch"
    assert chosen is None or layer.chosen["solver"] == chosen
    layer(torch.randn(2, 8, 4, 4))
    assert layer.chosen["solver"] == solver or solver == "auto"


@pytest.mark.parametrize(
    "solver", [name for name in solvers.names() if solvers.get(name).available("cpu") is None]
)
def test_every_solver_can_be_recorded(solver):
    layer = built("swa", True, solver=solver)
    traced, x = traced_and_layer(layer, torch.randn(2, 8, 5, 5)), torch.randn(3, 8, 7, 4)
    agree(traced(x), layer(x))


def test_a_non_dense_input_gives_the_output_of_the_layer():
    layer, x = built("bw", False), torch.randn(2, 8, 6, 12)[..., ::2]
    traced = torch.jit.trace(layer, x)
    assert traced(x).stride() == layer(x).stride()


def test_a_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"expected an input of shape \(N, 8, H, W\)"):
        torch.jit.trace(BatchWhiten2d(8, 4), torch.randn(2, 4, 3, 3))


def test_a_trace_with_communication_is_refused():
    with pytest.raises(RuntimeError, match="trace it in eval mode"):
        torch.jit.trace(BatchWhiten2d(8, 4, process_group="world"), torch.randn(2, 8, 3, 3))


@pytest.mark.parametrize(
    ("solver", "same"),
    [
        ("polar-triton:steps=9", "polar:backward=lyapunov,low=0.0,steps=9"),
        ("jacobi-triton:sweeps=4", "jacobi"),
    ],
)
def test_triton_solvers_have_an_equivalent_in_torch(solver, same):
    reference = solvers.get(solver).in_torch()
    assert reference.name == same.partition(":")[0]
    assert getattr(reference, "steps", 9) == 9
    assert getattr(reference, "sweeps", 4) == 4
