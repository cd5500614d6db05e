"""Kinds of networks and operations that have been counted wrongly or refused, each with the value
that is right: by hand, or what the peer says.
"""

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from swbench import count_flops
from swbench.errors import NotCounted


class Of(nn.Module):
    """A function as a module."""

    def __init__(self, function, **parts):
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *xs):
        return self.function(*xs)


def attention(x):
    return functional.scaled_dot_product_attention(x, x, x)


ATTENTION = 2 * (2 * 5 * 5 * 4) * 2
"""FLOPs of attention of 2 heads, 5 tokens and 4 channels: two products at two a multiply-add."""


# The totals are wrong without a word.


def test_convolutions_and_linears_inside_inference_mode_count():
    conv, fc = nn.Conv2d(3, 4, 3), nn.Linear(4 * 36, 2)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = conv, fc

        @torch.inference_mode()
        def forward(self, x):
            return self.fc(self.conv(x).flatten(1))

    products = 27 * 4 * 36 + 4 * 36 * 2
    assert count_flops(Net(), (3, 8, 8), rule="torch").total == 2 * products
    assert count_flops(Net(), (3, 8, 8), rule="fvcore").total == products


@pytest.mark.parametrize("needs_values", [False, True])
def test_attention_counts_the_same_on_meta_and_cpu(needs_values):
    def run(x):
        y = attention(x)
        return y * y.sum().item() if needs_values else y

    x = torch.rand(1, 2, 5, 4)
    assert count_flops(Of(run), x, rule="torch").total == ATTENTION
    count = count_flops(Of(run), x, rule="fvcore")
    assert count.total == 0
    (difference,) = count.differs
    assert difference.operation == "aten::scaled_dot_product_attention"
    assert (difference.calls, difference.counted, difference.ours) == (1, 0, ATTENTION // 2)


def test_a_frozen_encoder_counts_the_same_on_meta_and_cpu():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).requires_grad_(False)

    class Reads(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(x) * x.sum().item()

    plain, reads = (
        count_flops(net, (5, 8), rule="torch", mode="eval").total for net in (layer, Reads())
    )
    assert plain == reads == 2 * (5 * 8 * (24 + 8 + 16 + 16) + 2 * 2 * 5 * 5 * 4)


def test_products_of_integers_count():
    x = torch.ones(3, 4, dtype=torch.long)
    net = Of(lambda x: x @ x.T)
    assert count_flops(net, x, rule="torch").total == 2 * 3 * 4 * 3
    assert count_flops(net, x, rule="fvcore").total == 3 * 4 * 3
    assert count_flops(net, x, rule="paper").total == 2 * 3 * 4 * 3


@pytest.mark.filterwarnings("ignore")
def test_the_more_expensive_branch_counts_as_in_torch():
    cheap, dear = nn.Linear(8, 8), nn.Linear(8, 32)
    run = lambda x: torch.cond(x.sum() > 0, lambda x: cheap(x), lambda x: dear(x)[:, :8], (x,))  # noqa: E731
    net = Of(run, cheap=cheap, dear=dear)
    count = count_flops(net, torch.rand(4, 8), rule="torch")
    assert count.total == 2 * 4 * 8 * 32
    with FlopCounterMode(display=False) as counter:
        net(torch.rand(4, 8))
    assert counter.get_total_flops() == count.total


@pytest.mark.filterwarnings("ignore")
def test_a_loop_is_named_with_its_cost():
    from torch._higher_order_ops import while_loop

    fc = nn.Linear(8, 8)
    net = Of(
        lambda x: while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, fc(x)), (torch.tensor(0), x)),
        fc=fc,
    )
    count = count_flops(net, torch.rand(4, 8), rule="torch")
    assert (count.total, count.uncounted) == (0, {"while_loop": 1})
    assert count.differs[0].ours == 3 * 2 * 4 * 8 * 8
    assert count_flops(net, torch.rand(4, 8)).total == 3 * 2 * 4 * 8 * 8


# `fvcore` is what fvcore gives.


class Doubles(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x @ x.mT

    @staticmethod
    def backward(ctx, g):
        return g


class Mapped(nn.Module):
    """Rows at a time, of what a layer computed before."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        return torch.func.vmap(lambda row: row @ row.T)(self.fc(x))


class Unused(nn.Module):
    """Computes what its output does not need, next to writes that it needs."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.norm = nn.Linear(8, 8), nn.Linear(8, 8), nn.BatchNorm1d(4)

    def forward(self, x):
        y = self.a(x)
        self.b(y), self.norm(x)
        lost, copied = torch.zeros_like(y), torch.zeros_like(y)
        lost[:] = self.b(y)
        copied[0] = self.a(y)[0]
        return {"sum": [y + copied.detach()]}


X = torch.rand(2, 4, 8)
IMAGE = torch.rand(2, 3, 8, 10)
FVCORE = {
    "adaptive 1-d pooling": (nn.AdaptiveAvgPool1d(1), X),
    "adaptive 2-d pooling": (nn.AdaptiveAvgPool2d((3, 2)), IMAGE),
    "adaptive 3-d pooling": (nn.AdaptiveAvgPool3d(2), IMAGE[None]),
    "area in 1-d": (Of(lambda x: functional.interpolate(x, scale_factor=0.5, mode="area")), X),
    "area in 2-d": (Of(lambda x: functional.interpolate(x, size=(3, 3), mode="area")), IMAGE),
    "nearest in 1-d": (nn.Upsample(scale_factor=2), X),
    "nearest in 3-d": (nn.Upsample(scale_factor=2), IMAGE[None]),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), IMAGE),
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), IMAGE),
    "instance norm": (nn.InstanceNorm1d(4, affine=True), X),
    "instance norm with statistics": (nn.InstanceNorm1d(4, track_running_stats=True), X),
    "batch norm": (nn.BatchNorm2d(3), IMAGE),
    "batch norm without affine": (nn.BatchNorm2d(3, affine=False), IMAGE),
    "group norm": (nn.GroupNorm(2, 4), X),
    "layer norm": (nn.LayerNorm(8), X),
    "RMS norm": (nn.RMSNorm(8), X),
    "sampler in 2-d": (Of(functional.grid_sample), IMAGE, torch.rand(2, 4, 5, 2)),
    "sampler in 3-d": (Of(functional.grid_sample), IMAGE[None], torch.rand(1, 2, 4, 5, 3)),
    "matrix times vector": (Of(torch.mv), X[0], X[0, 0]),
    "dot": (Of(torch.dot), X[0, 0], X[0, 1]),
    "inner": (Of(torch.inner), X, X),
    "addbmm": (Of(torch.addbmm), X[0] @ X[0].T, X, X.mT),
    "baddbmm": (Of(torch.baddbmm), X @ X.mT, X, X.mT),
    "linalg.matmul": (Of(torch.linalg.matmul), X, X.mT),
    "multi_dot": (Of(lambda x: torch.linalg.multi_dot([x, x.T, x])), X[0]),
    "bilinear layer": (nn.Bilinear(8, 8, 3), X, X),
    "attention": (Of(attention), X),
    "attention layer": (nn.MultiheadAttention(8, 2), X, X, X),
    "encoder layer": (nn.TransformerEncoderLayer(8, 2, 16), X),
    "LSTM": (nn.LSTM(8, 8, num_layers=2), X),
    "LSTM cell": (nn.LSTMCell(8, 8), X[0]),
    "GRU": (nn.GRU(8, 8), X),
    "RNN": (nn.RNN(8, 8), X),
    "einsum": (Of(lambda x: torch.einsum("bij,bkj->bik", x, x)), X),
    "element-wise einsum": (Of(lambda x: torch.einsum("bij,bij->bij", x, x)), X),
    "padding by name": (nn.Conv1d(4, 4, 3, padding="same"), X),
    "transposed": (nn.ConvTranspose2d(3, 6, 3, groups=3), IMAGE),
    "autograd Function": (Of(Doubles.apply), X),
    "unused results": (Unused(), X),
    "vmap": (Mapped(), X),
    "weight norm": (nn.utils.parametrizations.weight_norm(nn.Linear(8, 3)), X),
}
BESIDE = {
    "sampler in 3-d": 8 * (2 * 2 * 4 * 5),
    "matrix times vector": 4 * 8,
    "dot": 8,
    "inner": 2 * 4 * 8 * 8,
    "addbmm": 2 * 4 * 8 * 4,
    "baddbmm": 2 * 4 * 8 * 4,
    "multi_dot": 2 * 4 * 8 * 4,
    "bilinear layer": 8 * 3 * 8 * 8,
    "attention": 2 * 2 * 4 * 4 * 8,
    "LSTM": 2 * 8 * 4 * (8 + 8) * 8,
    "element-wise einsum": 64,
    "padding by name": 2 * 3 * 4 * 4 * 8,
    "autograd Function": 2 * 4 * 8 * 4,
}
"""Our figure for what fvcore is blind to or wrong in."""


def by_fvcore(net, xs):
    from fvcore.nn import FlopCountAnalysis

    logging.getLogger("fvcore").setLevel(logging.ERROR)
    analysis = FlopCountAnalysis(net, xs).tracer_warnings("none")
    return analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", FVCORE)
def test_fvcore_rule_equals_fvcore(kind, training):
    net, *xs = FVCORE[kind]
    net.train(training)
    count = count_flops(net, tuple(xs), rule="fvcore")
    assert count.total == by_fvcore(net, tuple(xs))
    if kind in BESIDE:
        (difference,) = count.differs
        assert difference.ours == BESIDE[kind]


def test_calls_that_fail_in_fvcore_are_listed():
    net = Of(lambda x: x @ x[0, 0])
    with pytest.raises(IndexError):
        by_fvcore(net, (X,))
    count = count_flops(net, X, rule="fvcore")
    assert (count.total, count.uncounted) == (0, {"aten::matmul": 1})
    assert count.differs[0].ours == 2 * 4 * 8
    assert "IndexError" in count.differs[0].why


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_script_function_is_opaque_as_in_fvcore():
    scripted = torch.jit.script(scripted_product)
    net = Of(lambda x: scripted(x))
    count = count_flops(net, X, rule="fvcore")
    assert (count.total, count.uncounted) == (0, {"prim::CallFunction": 1})
    assert count.differs[0].ours == 2 * 4 * 8 * 4
    assert by_fvcore(net, (X,)) == 0


def scripted_product(x):
    return x @ x.mT


# `torch` is FlopCounterMode on meta.


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FVCORE)
def test_torch_rule_equals_flop_counter_mode_on_meta(kind):
    net, *xs = FVCORE[kind]
    net.train()
    count = count_flops(net, tuple(xs), rule="torch")
    on_meta = [x.to("meta") for x in xs]
    parameters = {k: v.detach().to("meta").requires_grad_() for k, v in net.named_parameters()}
    buffers = {k: v.to("meta") for k, v in net.named_buffers()}
    with FlopCounterMode(display=False) as counter:
        torch.func.functional_call(net, parameters | buffers, tuple(on_meta))
    assert count.total == counter.get_total_flops()


# Refusals: counted, or one line that names the thing and the remedy.


def test_lazy_parameters_count():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))
    assert count_flops(net, (3, 8, 8), rule="torch").total == 2 * (27 * 4 * 36 + 4 * 36 * 2)
    assert isinstance(net[0], nn.LazyConv2d)


def test_inputs_of_any_structure():
    def run(first, rest):
        return first @ rest["second"][0].mT

    assert count_flops(Of(run), (X, {"second": (X, 1)}), rule="fvcore").total == 2 * 4 * 8 * 4
    two = Of(lambda x, y: x @ y)
    assert count_flops(two, ((4, 8), (8, 2)), rule="fvcore", batch=3).total == 3 * 4 * 8 * 2

    class Named(nn.Module):
        def forward(self, *, left, right, scale):
            return left @ right * scale

    given = {"left": X, "right": X.mT, "scale": 2.0}
    assert count_flops(Named(), given, rule="fvcore").total == 2 * 4 * 8 * 4


@pytest.mark.parametrize(
    "wrong", ["3x224x224", 3.5, None, (), {1, 2}, (3, 0, 5), (3, -1)], ids=repr
)
def test_an_invalid_input_is_refused_in_one_line(wrong):
    with pytest.raises(ValueError, match=r"input_size must be|at least 1") as caught:
        count_flops(nn.Linear(8, 2), wrong)
    assert "\n" not in str(caught.value)


def quantised():
    from torch.ao.nn.quantized.dynamic import Linear

    return Linear(8, 2)


def scripted():
    return torch.jit.trace(nn.Linear(8, 2), torch.rand(1, 8))


def sparse():
    net = nn.Linear(8, 2)
    net.weight = nn.Parameter(net.weight.detach().to_sparse())
    return net


def nested():
    net = nn.Linear(8, 2)
    net.copied = torch.nested.nested_tensor([torch.rand(2), torch.rand(3)])
    return net


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "what", "remedy"),
    [
        (quantised, r"'1' \(Linear\) is quantised", "count the floating-point model"),
        (scripted, r"'1' \(TopLevelTracedModule\) is TorchScript", "count the nn.Module"),
        (sparse, r"a tensor of '1' is torch.sparse_coo", "make it dense"),
        (nested, "a tensor of '1' is nested", "make it dense"),
    ],
    ids=["quantised", "scripted", "sparse", "nested"],
)
def test_uncountable_models_are_refused_in_one_line_with_place_and_remedy(make, what, remedy):
    net = nn.Sequential(nn.ReLU(), make())
    with pytest.raises(NotCounted, match=f"{what}.*{remedy}") as caught:
        count_flops(net, (8,))
    assert "\n" not in str(caught.value)


def test_a_model_that_is_no_module_is_refused_in_one_line():
    with pytest.raises(ValueError, match=r"model must be an nn.Module, not function"):
        count_flops(lambda x: x, (8,))


def test_lack_of_memory_for_a_real_input_is_reported_in_one_line():
    net = Of(lambda x: x * x.sum().item())
    with pytest.raises(NotCounted, match=r"reads values.*count a smaller one"):
        count_flops(net, (3, 1_500_000, 1_500_000))


def test_a_data_parallel_wrapper_is_unwrapped():
    assert count_flops(nn.DataParallel(nn.Linear(8, 2)), (8,)).by_layer == {"": 32}
