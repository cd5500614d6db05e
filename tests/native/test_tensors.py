"""C reads torch's tensors itself where they are plain memory; any other leads to what Python does
with their addresses, bit for bit, errors too.
"""

import re
import subprocess
import sys

import pytest
import torch

from swbench.native import library
from swbench.norms.kernels.native_fused import FusedLayer
from swbench.norms.layers import SwitchWhiten2d

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))

needs_table = pytest.mark.skipif(
    library.missing() is not None or library._exchange() is None,
    reason="this torch does not show its tensors to C",
)


def read(table):
    library.load().sw_read_tensors(
        table, torch.Tensor, torch.nn.Parameter, torch.Tensor.is_neg, None
    )


@pytest.fixture
def converted(monkeypatch):
    """The directions that Python had to convert for, in order."""
    directions = []
    for direction in ("_forward_converted", "_backward_converted"):
        original = getattr(FusedLayer, direction)

        def spy(*arguments, original=original, direction=direction):
            directions.append(direction)
            return original(*arguments)

        monkeypatch.setattr(FusedLayer, direction, spy)
    return directions


class Other(torch.Tensor):
    pass


def opposite(tensor):
    return torch._neg_view(-tensor.detach())


def strided(tensor):
    return torch.stack([tensor.detach(), tensor.detach() + 1], -1)[..., 0]


def built(change=lambda layer: None, train=True):
    layer = SwitchWhiten2d(8, 4, sw_type=5, solver="polar-native", kernels="native").train(train)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in (*layer.parameters(), *layer.buffers()):
            tensor.add_(0.1 * torch.randn(tensor.shape, generator=generator))
    change(layer)
    return layer


def outcome(change, train=True, x=lambda x: x, dy=lambda dy: dy, unpack=lambda t: t):
    """y, gradients and running statistics after one call both ways, or the error's words."""
    layer = built(change, train)
    given = torch.randn(2, 8, 4, 5, generator=torch.Generator().manual_seed(1))
    leaf = x(given).detach().requires_grad_()
    try:
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, unpack):
            y = layer(leaf)
        gradients = torch.autograd.grad(
            y, [leaf, *layer.parameters()], dy(given.flip(-1)), allow_unused=True
        )
    except (RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return [
        None if t is None else t.detach().as_subclass(torch.Tensor).clone()
        for t in (y, *gradients, *layer.buffers())
    ]


def same(first, second):
    if isinstance(first, str) or isinstance(second, str):
        return first == second
    return all(
        a is b if a is None or b is None else a.dtype == b.dtype and torch.equal(a, b)
        for a, b in zip(first, second, strict=True)
    )


def by_addresses(*arguments, **options):
    read(None)
    try:
        return outcome(*arguments, **options)
    finally:
        read(library._exchange())


def parameter(name, change):
    return lambda layer: setattr(layer, name, torch.nn.Parameter(change(getattr(layer, name))))


def buffer(name, change):
    return lambda layer: setattr(layer, name, change(getattr(layer, name)))


FORWARD = {
    f"{name} {what}": parameter(name, change)
    for name in ("weight", "sw_var_weight")
    for what, change in {
        "float64": lambda t: t.detach().double(),
        "strided": strided,
        "opposite": opposite,
        "meta": lambda t: t.detach().to("meta"),
        "short": lambda t: t.detach()[:1].clone(),
    }.items()
} | {
    f"{name} {what}": buffer(name, change)
    for name in ("running_mean", "running_cov")
    for what, change in {
        "float64": lambda t: t.double(),
        "strided": strided,
        "opposite": opposite,
        "meta": lambda t: t.to("meta"),
        "zero": lambda t: torch._efficientzerotensor(t.shape),
        "of another class": lambda t: t.clone().as_subclass(Other),
        "of another shape": lambda t: t.flatten(),
    }.items()
}
BACKWARD = {
    "an expanded gradient": {"dy": lambda dy: dy[:, :1, :1, :1].expand(dy.shape)},
    "a gradient that is the opposite": {"dy": opposite},
    "a zero gradient": {"dy": lambda dy: torch._efficientzerotensor(dy.shape)},
    "a gradient of another layout": {"dy": lambda dy: dy.to(memory_format=torch.channels_last)},
    "x in another layout": {
        "unpack": lambda t: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t
    },
    "x of another shape": {"unpack": lambda t: t.mT.contiguous() if t.dim() == 4 else t},
    "x of another dtype": {"unpack": lambda t: t.double() if t.dim() == 4 else t},
    "x that is the opposite": {"unpack": lambda t: opposite(t) if t.dim() == 4 else t},
    "a short workspace": {"unpack": lambda t: t if t.dim() == 4 else t[:-1].clone()},
}


@needs_table
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_plain_tensors_are_read_by_c_with_the_same_results(converted, train, layout):
    def laid_out(t):
        return t.contiguous(memory_format=layout)

    actual = outcome(lambda layer: None, train, laid_out, laid_out)
    assert converted == []
    assert same(actual, by_addresses(lambda layer: None, train, laid_out, laid_out))
    assert converted == ["_forward_converted", "_backward_converted"]


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("change", FORWARD)
def test_forward_with_unsupported_tensors_runs_through_python(converted, change, train):
    actual = outcome(FORWARD[change], train)
    assert converted[:1] == ["_forward_converted"]
    assert same(actual, by_addresses(FORWARD[change], train))


@pytest.mark.parametrize("what", BACKWARD)
def test_backward_with_unsupported_tensors_runs_through_python(converted, what):
    actual = outcome(lambda layer: None, **BACKWARD[what])
    assert converted[-1:] == ["_backward_converted"]
    assert same(actual, by_addresses(lambda layer: None, **BACKWARD[what]))


@pytest.mark.parametrize(
    "change", [lambda t: torch.stack([t, t + 1], -1)[..., 0], lambda t: torch._neg_view(-t)]
)
def test_an_unpacked_workspace_in_another_form_is_read_by_value(change):
    expected = outcome(lambda layer: None)
    assert same(
        outcome(lambda layer: None, unpack=lambda t: t if t.dim() == 4 else change(t)), expected
    )


def test_statistics_of_another_shape_are_refused_with_the_layers_message():
    actual = outcome(buffer("running_cov", lambda t: t[:1]))
    assert re.fullmatch(r"ValueError: running_cov must have the shape \(2, 4, 4\), .*", actual)


@needs_table
def test_an_exchange_table_of_another_major_version_is_not_used():
    table = (library.ctypes.c_uint32 * 16)(2)
    native = library.load()
    try:
        assert not native.sw_read_tensors(
            library.ctypes.addressof(table),
            torch.Tensor,
            torch.nn.Parameter,
            torch.Tensor.is_neg,
            None,
        )
    finally:
        read(library._exchange())


def test_the_library_loads_without_torch():
    code = (
        "import sys; from swbench.native import library; print(library.summary()); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("native kernels ")
