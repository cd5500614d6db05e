"""Under compiled autograd, which calls a layer's backward by another way than the engine does, the
gradients are those of the layer itself.
"""

import contextlib
import copy

import pytest
import torch
from test_compiled_layers import SETS, Network, compare
from torch._dynamo import compiled_autograd

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    pytest.mark.filterwarnings("ignore:The .grad attribute"),  # torch itself looks
    # of what it goes around: the backward pass of a layer is one graph or several
    pytest.mark.filterwarnings("ignore:Dynamo"),
]
NATIVE = SETS[1]
PASSES = [("swa", True, False), ("swb", False, False), ("iw", True, False), ("swa", True, True)]
"""Layer, whether it trains, whether its forward pass is compiled."""

CASES = [
    *(pytest.param("native", *case, marks=NATIVE.marks) for case in PASSES),
    # ten seconds each where the backward pass is compiled by itself: those in `make compiled`
    *(pytest.param("torch", *case, marks=() if case[2] else pytest.mark.slow) for case in PASSES),
]


def captures():
    """Backward passes that were compiled."""
    return torch._dynamo.utils.counters["compiled_autograd"]["captures"]


def built(kind, kernels):
    return Network(kind, kernels, solver="polar-native" if kernels == "native" else "eigh")


def gradients(model, run, x, dy, around=contextlib.nullcontext):
    x = x.clone().requires_grad_()
    model.zero_grad()
    y = run(x)
    with around():
        y.backward(dy)
    return {
        "x": x.grad,
        **{name: item.grad for name, item in model.named_parameters()},
        **{name: item.clone() for name, item in model.named_buffers()},
    }


def captured():
    return compiled_autograd._enable(torch.compile(backend="aot_eager"))


@pytest.mark.parametrize(("kernels", "kind", "train", "compiled"), CASES)
def test_gradients_are_those_of_the_layer(kernels, kind, train, compiled):
    """Of the layer called as it is, and of one whose forward pass is compiled too."""
    model = built(kind, kernels).train(train)
    reference = copy.deepcopy(model)
    run = torch.compile(model, backend="aot_eager") if compiled else model
    for images in (2, 1):
        x, dy = torch.randn(images, 3, 6, 5), torch.randn(images, 4, 6, 5)
        compare(
            gradients(model, run, x, dy, captured), gradients(reference, reference, x, dy), 1e-5
        )
    assert captures()
    assert model.norm.chosen == reference.norm.chosen


@pytest.mark.parametrize("kernels", [pytest.param("torch", marks=pytest.mark.slow), NATIVE])
def test_gradients_add_up_over_two_backward_passes(kernels):
    model = built("swa", kernels)
    reference = copy.deepcopy(model)
    for item, around in ((model, captured), (reference, contextlib.nullcontext)):
        for seed in range(2):
            torch.manual_seed(seed)
            y = item(torch.randn(2, 3, 6, 5))
            with around():
                y.backward(torch.randn(y.shape))
    compare(
        *(
            {name: parameter.grad for name, parameter in item.named_parameters()}
            for item in (model, reference)
        ),
        1e-5,
    )
    assert captures()


@pytest.mark.parametrize("kernels", SETS)
def test_a_fully_compiled_training_step(kernels):
    """The switch that torch documents, around a function that calls `backward` itself."""
    model = built("swa", kernels)
    reference, x, dy = copy.deepcopy(model), torch.randn(2, 3, 6, 5), torch.randn(2, 4, 6, 5)

    given = x.clone().requires_grad_()
    with torch._dynamo.config.patch(compiled_autograd=True):

        @torch.compile(backend="aot_eager")
        def step(x):
            model(x).backward(dy)

        step(given)
    actual = {
        "x": given.grad,
        **{name: item.grad for name, item in model.named_parameters()},
        **dict(model.named_buffers()),
    }
    compare(actual, gradients(reference, reference, x, dy), 1e-5)
    assert captures()
