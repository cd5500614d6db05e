"""On native kernels a layer takes bfloat16 and float16: every number is that of float64 on the same
inputs, rounded once, but for what float32 loses on the way; BN's own error is told beside it.
"""

import pytest
import torch
from whitening_layers import WHITENING

from swbench.native import library

pytestmark = pytest.mark.skipif(library.missing() is not None, reason=str(library.missing()))

HALF = [torch.bfloat16, torch.float16]
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
LAYERS = ["bw", "iw", "swa", "swb"]
FLOAT32 = 2e-5
"""What float32 may lose of the largest value."""


@pytest.fixture(params=["best", "generic"], autouse=True)
def instructions(request):
    library.select("" if request.param == "best" else request.param)
    yield
    library.select()


def half_ulp(values, dtype):
    """Half of the last place of `values` (float64) in `dtype`, subnormal ones included."""
    info = torch.finfo(dtype)
    exponent = torch.frexp(values.abs().clamp_min(info.smallest_normal)).exponent - 1
    return torch.ldexp(torch.full_like(values, info.eps / 2), exponent)


def beyond_rounding(actual, expected, dtype):
    """The error of `actual` beyond half an ulp, as a share of the largest value."""
    error = (actual.double() - expected).abs() - half_ulp(expected, dtype)
    return (error.clamp_min(0).max() / expected.abs().max()).item()


def inputs(shape, dtype, layout):
    x, dy = torch.randn(shape) * 2 + 3, torch.randn(shape)
    return tuple(t.to(dtype).contiguous(memory_format=LAYOUTS[layout]) for t in (x, dy))


def results(layer, x, dy):
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(dy)
    return y.detach(), x.grad, [p.grad for p in layer.parameters()]


def pair(name, channels, train, group=16):
    """A layer with parameters and statistics of its own, and its twin in float64 without C."""
    cls, options = WHITENING[name]
    layer = cls(channels, group, solver="polar-native", **options).train(train)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
        for of, buffer in layer.named_buffers():
            buffer.add_(0.05 if of == "running_cov" else 0.3)
    reference = (
        cls(channels, group, solver="eigh", kernels="torch", **options).double().train(train)
    )
    reference.load_state_dict({key: value.double() for key, value in layer.state_dict().items()})
    return layer, reference


@pytest.mark.parametrize("shape", [(1, 32, 13, 11), (3, 32, 23, 21)], ids=["one", "three"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_error_is_half_an_ulp_and_what_float32_loses(
    name, train, dtype, layout, shape, record_property
):
    layer, reference = pair(name, shape[1], train)
    x, dy = inputs(shape, dtype, layout)
    bn = torch.nn.BatchNorm2d(shape[1]).train(train)
    bn_results = results(bn, x, dy)
    bn_wants = results(
        torch.nn.BatchNorm2d(shape[1]).double().train(train), x.double(), dy.double()
    )
    actual, expected = results(layer, x, dy), results(reference, x.double(), dy.double())
    assert layer.chosen == {"solver": "polar-native", "kernels": "native"}
    for which, ours, exact, reference_output, their_exact in zip(
        ("y", "dx"), actual[:2], expected[:2], bn_results[:2], bn_wants[:2], strict=True
    ):
        assert ours.dtype == reference_output.dtype == dtype
        assert ours.stride() == x.stride()
        ours, reference_output = (
            beyond_rounding(ours, exact, dtype),
            beyond_rounding(reference_output, their_exact, dtype),
        )
        record_property(f"{which} beyond half an ulp", f"{ours:.1e}, BN {reference_output:.1e}")
        assert ours <= FLOAT32, f"{which}: {ours:.1e}, BN {reference_output:.1e}"
    for (of, p), grad, exact in zip(layer.named_parameters(), actual[2], expected[2], strict=True):
        assert grad.dtype == p.dtype == torch.float32
        # a weight's gradient is a small difference of large sums over all pixels
        scale = max(exact.abs().max().item(), 1.0 if p.numel() == shape[1] else dy.numel() ** 0.5)
        assert (grad - exact).abs().max() <= 1e-4 * scale, of
    for of, buffer in layer.named_buffers():
        torch.testing.assert_close(buffer.double(), reference.get_buffer(of), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("channels", "group"), [(24, 12), (16, 4), (40, 20), (32, 8), (64, 64), (48, 24)]
)
def test_every_group_size(channels, group, layout, dtype):
    layer, reference = pair("swb", channels, True, group)
    x, dy = inputs((2, channels, 17, 19), dtype, layout)
    actual, expected = results(layer, x, dy), results(reference, x.double(), dy.double())
    for ours, exact in zip(actual[:2], expected[:2], strict=True):
        assert beyond_rounding(ours, exact, dtype) <= 5 * FLOAT32


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", LAYERS)
def test_parameters_and_running_statistics_may_be_of_the_same_type(name, dtype):
    """A network that is converted as a whole; C reads and writes those too."""
    layer, reference = pair(name, 32, True)
    layer = layer.to(dtype)
    reference.load_state_dict({key: value.double() for key, value in layer.state_dict().items()})
    x, dy = inputs((2, 32, 9, 7), dtype, "contiguous")
    actual, expected = results(layer, x, dy), results(reference, x.double(), dy.double())
    for ours, exact in zip(actual[:2], expected[:2], strict=True):
        assert beyond_rounding(ours, exact, dtype) <= FLOAT32
    for grad in actual[2]:
        assert grad.dtype == dtype
    for of, buffer in layer.named_buffers():
        assert buffer.dtype == dtype
        assert beyond_rounding(buffer, reference.get_buffer(of), dtype) <= FLOAT32, of


@pytest.mark.parametrize("name", LAYERS)
def test_autocast_equals_an_input_of_its_dtype(name):
    layer, _ = pair(name, 32, True)
    conv, image = torch.nn.Conv2d(3, 32, 3), torch.randn(2, 3, 11, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        x = conv(image)
        y = layer(x)
    assert x.dtype == y.dtype == torch.bfloat16
    assert layer.chosen["kernels"] == "native"
    assert torch.equal(y, layer(x))
    y.float().square().mean().backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_16_bit_number_is_converted_as_in_torch(dtype, layout):
    """All 65536 of them by a map that changes nothing, and what lies between two neighbours."""
    from swbench.norms.kernels.native import NativeBackend

    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(dtype).view(2, 16, 32, 64)
    x = every.contiguous(memory_format=LAYOUTS[layout])
    finite = torch.where(x.isfinite(), x, 0).contiguous(memory_format=LAYOUTS[layout])
    backend, unit, zero = NativeBackend(), torch.eye(4).expand(2, 4, 4, 4), torch.zeros(2, 4, 4)
    same = backend.affine(finite, unit, zero)
    assert torch.equal(same, finite)
    for factor in (1 + 2**-9, 1 + 2**-12, 1 - 2**-9, 0.5, 3.0):
        scaled = backend.affine(finite, unit * factor, zero)
        assert torch.equal(scaled, (finite.float() * factor).to(dtype))
    infinite = backend.affine(torch.full_like(finite, torch.inf), unit[..., :] * 0 + 1, zero)
    assert infinite.isinf().all()
    affected = backend.affine(torch.full_like(finite, torch.nan), unit, zero)
    assert affected.isnan().all()
