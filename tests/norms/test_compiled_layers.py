"""Compiled, a network with whitening layers is one graph, and gives what it gives uncompiled:
outputs, gradients, running statistics.
"""

import copy
import shutil

import pytest
import torch
from torch import nn

from swbench.errors import UnknownName
from swbench.native import library
from swbench.norms.kernels import packing
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d
from swbench.solvers.newton import Newton
from swbench.solvers.polar import Polar

KINDS = {
    "bw": (BatchWhiten2d, {}),
    "iw": (InstanceWhiten2d, {}),
    "swa": (SwitchWhiten2d, {"sw_type": 2}),
    "swb": (SwitchWhiten2d, {"sw_type": 5}),
    "tied": (SwitchWhiten2d, {"sw_type": 3, "tie_weight": True}),
    "plain": (SwitchWhiten2d, {"sw_type": 2, "affine": False}),
}
SETS = [
    "torch",
    pytest.param(
        "native",
        marks=pytest.mark.skipif(library.missing() is not None, reason=str(library.missing())),
    ),
]
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="inductor needs a C++ compiler",
)

pytestmark = pytest.mark.usefixtures("fresh_compiler")


class Network(nn.Module):
    """Convolution, whitening, ReLU in place, convolution."""

    def __init__(self, kind, kernels, solver="auto", group=4, **options):
        super().__init__()
        torch.manual_seed(0)
        cls, given = KINDS[kind]
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = cls(8, group, solver=solver, kernels=kernels, **given, **options)
        self.last = nn.Conv2d(8, 4, 1)
        with torch.no_grad():
            for parameter in self.norm.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            for name, buffer in self.norm.named_buffers():
                buffer.add_(0.05 if name == "running_cov" else 0.3)

    def forward(self, x):
        return self.last(torch.relu_(self.norm(self.first(x))))


def results(model, run, x, autocast=None):
    x = x.detach().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast is not None):
        y = run(x)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    grads = torch.autograd.grad(y, [x, *model.parameters()], dy)
    names = ["x", *(name for name, _ in model.named_parameters())]
    return {
        "y": y.detach(),
        **dict(zip(names, grads, strict=True)),
        **{name: buffer.clone() for name, buffer in model.named_buffers()},
    }


def compare(actual, expected, tolerance):
    assert actual.keys() == expected.keys()
    for name, right in expected.items():
        assert actual[name].dtype == right.dtype, name
        scale = max(1.0, right.abs().max().item())
        torch.testing.assert_close(
            actual[name] / scale,
            right / scale,
            rtol=tolerance,
            atol=tolerance,
            msg=lambda m, n=name: f"{n}: {m}",
        )


def both(model, x, tolerance=1e-6, backend="aot_eager", autocast=None, **options):
    """Checks the compiled model against the model; the running statistics of both move twice."""
    reference = copy.deepcopy(model)
    run = torch.compile(model, fullgraph=True, backend=backend, **options)
    for _ in range(2):
        compare(
            results(model, run, x, autocast), results(reference, reference, x, autocast), tolerance
        )
    assert model.norm.chosen == reference.norm.chosen
    return run


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kernels", SETS)
def test_a_compiled_layer_is_one_graph_with_the_same_results(kernels, kind, images, train):
    both(Network(kind, kernels).train(train), torch.randn(images, 3, 6, 5))
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_layouts_and_dtypes(layout, dtype):
    model = Network("swb", "auto").to(dtype=dtype, memory_format=layout)
    both(
        model,
        torch.randn(2, 3, 6, 5, dtype=dtype).contiguous(memory_format=layout),
        2e-2 if dtype == torch.bfloat16 else 1e-6,
    )


@pytest.mark.parametrize("kind", ["bw", "swa"])
def test_autocast(kind):
    both(Network(kind, "auto"), torch.randn(2, 3, 6, 5), 2e-2, autocast=torch.bfloat16)


@pytest.mark.parametrize("kernels", SETS)
@pytest.mark.parametrize("kind", ["bw", "swb"])
def test_one_graph_is_used_for_any_batch_size(kind, kernels):
    model = Network(kind, kernels, solver="polar-native" if kernels == "native" else "eigh")
    reference, run = (
        copy.deepcopy(model),
        torch.compile(model, fullgraph=True, backend="aot_eager", dynamic=True),
    )
    for images in (2, 5, 3):
        x = torch.randn(images, 3, 6, 5)
        compare(results(model, run, x), results(reference, reference, x), 1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize("grad", [torch.no_grad, torch.inference_mode])
def test_without_gradients(grad):
    model = Network("swa", "auto").eval()
    x = torch.randn(2, 3, 6, 5)
    with grad():
        torch.testing.assert_close(
            torch.compile(model, fullgraph=True, backend="aot_eager")(x), model(x)
        )


@pytest.mark.parametrize(
    "solver",
    [
        "newton5",
        "svd:backward=paper",
        "jacobi",
        "polar:backward=autograd",
        Newton(),
        Polar(backward="autograd"),
    ],
    ids=str,
)
def test_any_solver(solver):
    model = Network("swa", "torch", solver=solver)
    both(model, torch.randn(2, 3, 6, 5))


def test_two_calls_compile_once():
    """What the layer keeps of a call is nothing that its graph depends on."""
    model = Network("swb", "auto")
    run = torch.compile(model, backend="aot_eager")
    for _ in range(3):
        results(model, run, torch.randn(2, 3, 6, 5))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_only_x_is_saved_at_full_size():
    model = SwitchWhiten2d(8, 4)
    sizes, x = [], torch.randn(2, 8, 32, 32, requires_grad=True)
    run = torch.compile(model, fullgraph=True, backend="aot_eager")
    run(x)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    ):
        run(x)
    assert sum(size == x.numel() for size in sizes) == 1
    assert max(size for size in sizes if size != x.numel()) <= x.numel() // 16


def test_a_user_solver_must_be_registered():
    class UserSolver(Newton):
        name = "mine"

    with pytest.raises((UnknownName, torch._dynamo.exc.TorchDynamoException), match="mine"):
        torch.compile(
            Network("bw", "torch", solver=UserSolver()), fullgraph=True, backend="aot_eager"
        )(torch.randn(2, 3, 6, 5))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch itself looks, at a break
def test_layers_with_a_process_group_stay_outside_the_graph():
    model = Network("bw", "torch", process_group="world")
    with pytest.raises(torch._dynamo.exc.Unsupported, match="over_ranks"):
        torch.compile(model, fullgraph=True, backend="aot_eager")(torch.randn(2, 3, 6, 5))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    reference, run = copy.deepcopy(model), torch.compile(model, backend="aot_eager")
    x = torch.randn(2, 3, 6, 5)
    compare(results(model, run, x), results(reference, reference, x), 1e-6)
    assert torch._dynamo.utils.counters["graph_break"]


@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kernels", SETS)
def test_inductor_gives_what_the_layer_gives(kernels, layout):
    model = Network("swb", kernels).to(memory_format=layout)
    both(model, torch.randn(2, 3, 6, 5).contiguous(memory_format=layout), 1e-5, backend="inductor")


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("kind", ["iw", "swa"])
@pytest.mark.parametrize("kernels", SETS)
def test_the_operators_pass_their_schema_checks(kernels, kind, train):
    """Schema and fake implementation, as torch checks them."""
    from swbench.norms.custom_ops import arguments

    layer, ops = Network(kind, kernels).norm.train(train), torch.ops.swbench
    x, checks = torch.randn(2, 8, 5, 4), ("test_schema", "test_faketensor")
    given = tuple(
        a.detach() if isinstance(a, torch.Tensor) else a
        for a in arguments(layer.described(), x, *layer._tensors())
    )
    forward = ops.whiten_forward_training if train and kind == "swa" else ops.whiten_forward
    torch.library.opcheck(forward, given, test_utils=checks)
    _, workspace = forward(*given)
    statistics, group, eps, _, training, solver, chosen, _ = given[7:]
    torch.library.opcheck(
        ops.whiten_backward,
        (
            torch.randn_like(x),
            *given[:5],
            workspace,
            statistics,
            group,
            eps,
            training,
            solver,
            chosen,
            True,
        ),
        test_utils=checks,
    )


@pytest.mark.parametrize("kernels", SETS)
@pytest.mark.parametrize("kind", ["bw", "swa"])
def test_exported_before_it_is_compiled(kind, kernels):
    packing.solver_parts.cache_clear()
    layer, x = Network(kind, kernels).eval(), torch.randn(2, 3, 6, 5)
    program = torch.export.export(layer, (x,), strict=False)
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-4, atol=1e-4)
    both(layer, x)
