"""The code that a compiler generates around a layer: no full tensor is cloned for the operator's
sake, the ReLU that follows is the operator's, running statistics move in place, and there are no
more graphs than for BN.
"""

import re
import shutil
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from swbench.native import library
from swbench.norms import with_relu
from swbench.norms.layers import SwitchWhiten2d

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    pytest.mark.skipif(library.missing() is not None, reason=str(library.missing())),
]
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="inductor needs a C++ compiler",
)
IMAGES, CHANNELS, SIDE = 3, 16, 10


def network(norm):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False),
        norm(CHANNELS),
        nn.ReLU(inplace=True),
        nn.Conv2d(CHANNELS, 4, 1, bias=False),
    )


def full_tensors_made(code):
    """Of tensors as large as the layer's, those that generated loops write to. Convolutions and
    the operators make their own.
    """
    return len(re.findall(rf"empty_strided_cpu\(\({IMAGES}, {CHANNELS}, {SIDE}, {SIDE}\)", code))


@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
def test_no_full_tensor_is_made_for_the_operator():
    from torch._inductor.utils import run_fw_bw_and_get_code

    model = network(SwitchWhiten2d)
    x = torch.randn(IMAGES, 3, SIDE, SIDE)
    run = torch.compile(model, fullgraph=True)
    _, (forward, backward) = run_fw_bw_and_get_code(lambda: run(x))
    assert "swbench.whiten_forward_training_relu.default" in forward
    assert "cpp_fused_relu" not in forward
    assert "swbench.whiten_backward.default" in backward
    for code in (forward, backward):
        assert full_tensors_made(code) == 0  # the ReLU and its gradient are taken in place
        assert "aten.clone" not in code
        assert "auto_functionalized" not in code
    call = re.search(r"whiten_forward_training_relu\.default\((.*)\)", forward).group(1)
    assert len(re.findall(r"primals_\d+", call)) == 6, call  # statistics are the layer's own


class Read(nn.Module):
    """What is whitened is read by others than the ReLU, or by another function."""

    def __init__(self, how):
        super().__init__()
        self.norm, self.how = SwitchWhiten2d(CHANNELS), how

    def forward(self, x):
        return self.how(self.norm(x))


@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("joined", "how"),
    [
        (True, torch.relu),
        (True, lambda y: nn.functional.max_pool2d(torch.relu_(y), 3, 2, 1)),
        (False, lambda y: torch.relu(y) + y),
        (False, torch.sigmoid),
    ],
    ids=["relu", "pooled", "read twice", "another"],
)
def test_only_a_relu_that_alone_reads_is_joined(joined, how, train):
    from torch._inductor.utils import run_and_get_code

    model = Read(how).train(train)
    x = torch.randn(IMAGES, CHANNELS, SIDE, SIDE, requires_grad=True)
    run = torch.compile(model, fullgraph=True)
    y, codes = run_and_get_code(run, x)
    name = "whiten_forward_training" if train else "whiten_forward"
    assert any(f"{name}_relu.default" in code for code in codes) == joined
    assert any(f"{name}.default" in code for code in codes) != joined
    grads = [torch.autograd.grad(out.sin().sum(), x)[0] for out in (y, model(x))]
    torch.testing.assert_close(y, model(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kernels", ["native", "torch"])
@pytest.mark.parametrize("channels", [32, 24])
def test_the_operator_with_relu_gives_the_positive_part(channels, kernels, dtype, layout):
    from swbench.norms.custom_ops import arguments

    layer = SwitchWhiten2d(channels, 16 if channels == 32 else 12, kernels=kernels).eval()
    x = torch.randn(2, channels, 9, 7).to(dtype).contiguous(memory_format=layout)
    x[0, 0, 0, 0] = torch.nan if kernels == "native" else 0
    given = arguments(layer.described(), x, *layer._tensors())
    with torch.no_grad():
        y, _ = torch.ops.swbench.whiten_forward(*given)
        positive, _ = torch.ops.swbench.whiten_forward_relu(*given)
    torch.testing.assert_close(positive, y.relu(), rtol=0, atol=0, equal_nan=True)


def graphs(norm):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    run = torch.compile(network(norm), backend="aot_eager")
    for images in (8, 16, 32, 1):
        run(torch.randn(images, 3, SIDE, SIDE)).sum().backward()
    assert not torch._dynamo.utils.counters["graph_break"]
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_no_more_graphs_than_bn_over_batches():
    assert graphs(SwitchWhiten2d) <= graphs(nn.BatchNorm2d)


@pytest.fixture
def passes(monkeypatch):
    """Inductor's passes by device, as the test leaves them for itself."""
    from torch._inductor.codegen import common

    common.init_backend_registration()
    monkeypatch.setattr(common, "custom_backend_passes", {})
    return common.custom_backend_passes


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
def test_a_pass_that_is_there_already_runs_too_and_keys_the_cache_too(passes):
    from torch._inductor.custom_graph_pass import CustomGraphModulePass

    class Other(CustomGraphModulePass):
        def __init__(self, identity):
            self.identity, self.seen = identity, []

        def __call__(self, gm):
            self.seen.append(gm)

        def uuid(self):
            return self.identity

    alone, others, unkeyed = None, Other("other"), Other(None)
    keys = []
    for there in (alone, others, unkeyed):
        passes["cpu"] = there
        with_relu.register.__wrapped__()
        keys.append(passes["cpu"].uuid())
        passes["cpu"](torch.fx.symbolic_trace(nn.ReLU()))
    assert keys == [keys[0], (keys[0], "other"), None]
    assert keys[0]
    assert [len(other.seen) for other in (others, unkeyed)] == [1, 1]


def test_without_inductors_registry_nothing_is_joined(monkeypatch):
    from torch._inductor.codegen import common

    before = dict(common.custom_backend_passes)
    monkeypatch.delattr(common, "custom_backend_passes")
    with_relu.register.__wrapped__()
    monkeypatch.undo()
    assert common.custom_backend_passes == before


def test_a_backend_that_the_pass_leaves_alone_takes_the_relu_too(monkeypatch):
    from swbench.norms import kernels
    from swbench.norms.kernels.triton_kernels import backend

    y = torch.tensor([-1.0, torch.nan, 2.0])
    fused = SimpleNamespace(forward=lambda *_: y.clone())
    monkeypatch.setattr(backend, "_fuses", lambda call: True)
    monkeypatch.setattr(backend, "_fused", lambda: fused)
    for relu in (False, True):
        call = SimpleNamespace(relu=relu)
        given = kernels.named("triton").forward(call, y, (), y)
        torch.testing.assert_close(given, y.relu() if relu else y, equal_nan=True)
