"""The code that a compiler generates around a layer: no full tensor is cloned for the operator's
sake, running statistics move in place, saved masks are made and read by torch, and there are no
more graphs than for BN.
"""

import re
import shutil

import pytest
import torch
from torch import nn

from swbench.native import library
from swbench.norms import saved_masks
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
def test_no_full_tensor_is_copied_for_the_operator():
    from torch._inductor.utils import run_fw_bw_and_get_code

    model = network(SwitchWhiten2d)
    x = torch.randn(IMAGES, 3, SIDE, SIDE)
    run = torch.compile(model, fullgraph=True)
    _, (forward, backward) = run_fw_bw_and_get_code(lambda: run(x))
    assert "swbench.whiten_forward_training.default" in forward
    assert "swbench.whiten_backward.default" in backward
    # the convolution keeps what ReLU's gradient reads
    assert "swbench.not_positive" not in forward
    assert "swbench.zero_where" not in backward
    for code in (forward, backward):
        assert full_tensors_made(code) == 0  # the ReLU and its gradient are taken in place
        assert "aten.clone" not in code
        assert "auto_functionalized" not in code
    call = re.search(r"whiten_forward_training\.default\((.*)\)", forward).group(1)
    assert len(re.findall(r"primals_\d+", call)) == 6, call  # statistics are the layer's own


class Read(nn.Module):
    """A layer, and what reads its result."""

    def __init__(self, reader, norm=SwitchWhiten2d):
        super().__init__()
        self.norm, self.reader = norm(CHANNELS), reader

    def forward(self, x):
        return self.reader(self.norm(x))


def pooled(y):
    """As in ResNet: the gradient needs to know where y was positive, and nothing else of y."""
    return nn.functional.max_pool2d(torch.relu_(y), 3, 2, 1)


@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
@pytest.mark.parametrize(
    ("made", "read", "reader", "norm"),
    [
        (True, True, pooled, SwitchWhiten2d),
        (True, True, lambda y: pooled(y) + y.mean(), SwitchWhiten2d),
        (True, False, lambda y: pooled(y.clone()) + y.mean(), SwitchWhiten2d),
        (False, False, pooled, nn.BatchNorm2d),
        (True, True, torch.relu, SwitchWhiten2d),
        (False, False, torch.sigmoid, SwitchWhiten2d),
    ],
    ids=["pooled", "read twice", "a further gradient", "BN", "result returned", "no ReLU"],
)
def test_a_mask_saved_for_the_gradient_is_made_and_read_by_operators(made, read, reader, norm):
    forward, backward, y, model, x = compiled(Read(reader, norm))
    assert ("swbench.not_positive" in forward) == made
    assert ("swbench.zero_where" in backward) == read
    grads = [torch.autograd.grad(out.sin().sum(), x)[0] for out in (y, model(x))]
    torch.testing.assert_close(y, model(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("shape", "by_torch"),
    [((IMAGES, CHANNELS, SIDE, SIDE), True), ((1, 1, SIDE, SIDE), False)],
    ids=["full", "broadcast"],
)
def test_a_mask_of_the_user_selects_the_same(shape, by_torch, layout, dtype):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(4)) < 0.5

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = SwitchWhiten2d(CHANNELS, dtype=dtype)

        def forward(self, x):
            return torch.where(mask, 0.0, self.norm(x))

    _, backward, y, model, x = compiled(Masked(), dtype, layout)
    assert ("swbench.zero_where" in backward) == by_torch
    grads = [torch.autograd.grad(out.sin().sum(), x)[0] for out in (y, model(x))]
    tolerance = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(*grads, rtol=tolerance, atol=tolerance)


def compiled(model, dtype=torch.float32, layout=torch.contiguous_format):
    """Generated code forward and backward, the result, the model and its input."""
    from torch._inductor.utils import run_fw_bw_and_get_code

    x = torch.randn(IMAGES, CHANNELS, SIDE, SIDE, dtype=dtype).contiguous(memory_format=layout)
    x[0, 0, :3, :3] = 0.5
    x.requires_grad_()
    run = torch.compile(model, fullgraph=True)
    results = []
    _, (forward, backward) = run_fw_bw_and_get_code(lambda: results.append(run(x)) or results[0])
    return forward, backward, run(x), model, x


def test_not_positive_compares_as_relu_does():
    y = torch.tensor([-1.0, 0.0, -0.0, 2.0, torch.nan, -torch.inf])
    mask = torch.ops.swbench.not_positive(y)
    assert mask.tolist() == (y.relu() <= 0).tolist() == [True, True, True, False, False, True]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_zero_where_keeps_every_bit_that_is_not_masked(dtype, layout):
    dy = torch.tensor([1.5, -0.0, torch.nan, torch.inf, -2.0, 3e-39], dtype=dtype).repeat(4)
    dy = dy.view(2, 3, 2, 2).contiguous(memory_format=layout)
    for mask in (dy > 0, dy <= 0, dy.isnan(), torch.zeros_like(dy, dtype=torch.bool)):
        result = torch.ops.swbench.zero_where(mask, dy)
        torch.testing.assert_close(
            result, torch.where(mask, 0.0, dy), rtol=0, atol=0, equal_nan=True
        )
        assert result.signbit().equal(dy.signbit() & ~mask)
        assert result.is_contiguous(memory_format=layout)
        assert result.dtype is dtype


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
def test_an_existing_pass_still_runs_and_is_part_of_the_cache_key(passes):
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
    for existing in (alone, others, unkeyed):
        passes["cpu"] = existing
        saved_masks.register.__wrapped__()
        keys.append(passes["cpu"].uuid())
        passes["cpu"](torch.fx.symbolic_trace(nn.ReLU()))
    assert keys == [keys[0], (keys[0], "other"), None]
    assert keys[0]
    assert [len(other.seen) for other in (others, unkeyed)] == [1, 1]


def test_without_inductors_registry_nothing_is_registered(monkeypatch):
    from torch._inductor.codegen import common

    before = dict(common.custom_backend_passes)
    monkeypatch.delattr(common, "custom_backend_passes")
    saved_masks.register.__wrapped__()
    monkeypatch.undo()
    assert common.custom_backend_passes == before
