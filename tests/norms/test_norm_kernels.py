"""Every backend that works pass by pass keeps the contract of `Passes`: against float64 sums, for
both layouts, odd shapes and every dtype.
"""

import os

import pytest
import torch

from swbench.errors import UnknownName
from swbench.norms import kernels

DEVICE = os.environ.get("SWBENCH_TEST_DEVICE", "cpu")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
LAYOUTS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(1, 8, 5, 7), (3, 12, 4, 4), (2, 8, 1, 1), (1, 4, 1, 3), (2, 32, 9, 5), (1, 32, 37, 41)]
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12, torch.bfloat16: 1e-2, torch.float16: 2e-3}


@pytest.fixture(params=kernels.names())
def kernel_set(request):
    return kernels.named(request.param)


def tensor(shape, dtype, layout, offset=0.0):
    return (
        (torch.randn(shape, dtype=torch.float64) + offset)
        .to(DEVICE, dtype)
        .contiguous(memory_format=layout)
    )


def exact(x, group):
    """(N, g, G, HW) in float64."""
    n, c, h, w = x.shape
    return x.double().contiguous().view(n, c // group, group, h * w)


def small(*shape, dtype):
    return torch.randn(
        shape, dtype=torch.float64 if dtype == torch.float64 else torch.float32, device=DEVICE
    )


def close(actual, expected, dtype, scale=1.0):
    assert actual.dtype == dtype or actual.dtype == (
        torch.float64 if dtype == torch.float64 else torch.float32
    )
    torch.testing.assert_close(
        actual.double(), expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype] * scale
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
class TestPasses:
    def test_moments(self, kernel_set, shape, dtype, layout):
        if not kernel_set.takes(x := tensor(shape, dtype, layout, 3.0)):
            pytest.skip("not its dtype")
        mean, cov = kernel_set.moments(
            x, x[:, :, 0, 0].to(small(1, dtype=dtype).dtype).contiguous(), 4
        )
        wide = exact(x, 4)
        deviation = wide - wide.mean(-1, keepdim=True)
        statistics = torch.float64 if dtype == torch.float64 else torch.float32
        tolerance = TOLERANCE[statistics]
        assert mean.dtype == cov.dtype == statistics
        torch.testing.assert_close(mean.double(), wide.mean(-1), rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(
            cov.double(),
            deviation @ deviation.mT / deviation.shape[-1],
            rtol=tolerance,
            atol=5 * tolerance,
        )

    @pytest.mark.parametrize("shared", [False, True])
    def test_affine(self, kernel_set, shape, dtype, layout, shared):
        if not kernel_set.takes(x := tensor(shape, dtype, layout)):
            pytest.skip("not its dtype")
        n, g = 1 if shared else shape[0], shape[1] // 4
        a, b = small(n, g, 4, 4, dtype=dtype), small(n, g, 4, dtype=dtype)
        y = kernel_set.affine(x, a, b)
        assert (y.dtype, y.shape, y.stride()) == (x.dtype, x.shape, x.stride())
        close(y, (a.double() @ exact(x, 4) + b.double().unsqueeze(-1)).view(shape), dtype, scale=10)

    def test_products(self, kernel_set, shape, dtype, layout):
        if not kernel_set.takes(x := tensor(shape, dtype, layout, 3.0)):
            pytest.skip("not its dtype")
        dy = tensor(shape, dtype, layout)
        shift = small(*shape[:2], dtype=dtype)
        m, s = kernel_set.products(dy, x, shift, 4)
        wide = exact(dy, 4)
        statistics = torch.float64 if dtype == torch.float64 else torch.float32
        atol = TOLERANCE[statistics] * wide.shape[-1]
        assert m.dtype == s.dtype == statistics
        torch.testing.assert_close(
            m.double(),
            wide @ (exact(x, 4) - shift.double().view(shape[0], -1, 4, 1)).mT,
            rtol=0,
            atol=atol,
        )
        torch.testing.assert_close(s.double(), wide.sum(-1), rtol=0, atol=atol)

    @pytest.mark.parametrize("shared", [False, True])
    def test_combine(self, kernel_set, shape, dtype, layout, shared):
        if not kernel_set.takes(x := tensor(shape, dtype, layout)):
            pytest.skip("not its dtype")
        dy = tensor(shape, dtype, layout)
        n, g = 1 if shared else shape[0], shape[1] // 4
        a, b, c = (
            small(n, g, 4, 4, dtype=dtype),
            small(n, g, 4, 4, dtype=dtype),
            small(n, g, 4, dtype=dtype),
        )
        dx = kernel_set.combine(dy, x, a.mT, b, c)
        assert (dx.dtype, dx.shape, dx.stride()) == (x.dtype, x.shape, x.stride())
        expected = (
            a.double().mT @ exact(dy, 4) + b.double() @ exact(x, 4) + c.double().unsqueeze(-1)
        )
        close(dx, expected.view(shape), dtype, scale=10)


@pytest.mark.parametrize("own", [(True, False), (False, True)])
def test_matrices_or_vectors_may_be_shared_by_all_images_in_triton(own):
    kernel_set, x, dy = (
        kernels.named("triton"),
        *(tensor((3, 8, 5, 4), torch.float32, torch.contiguous_format) for _ in range(2)),
    )
    if not kernel_set.takes(x):
        pytest.skip("not its device")
    matrices, vectors = (3 if each else 1 for each in own)
    a, b, c = (
        small(matrices, 2, 4, 4, dtype=x.dtype),
        small(1, 2, 4, 4, dtype=x.dtype),
        small(vectors, 2, 4, dtype=x.dtype),
    )
    wide, level = a.double() @ exact(dy, 4), c.double().unsqueeze(-1)
    close(kernel_set.affine(dy, a, c), (wide + level).view(x.shape), x.dtype, scale=10)
    close(
        kernel_set.combine(dy, x, a, b, c),
        (wide + b.double() @ exact(x, 4) + level).view(x.shape),
        x.dtype,
        scale=10,
    )


def test_moments_are_accurate_with_a_mean_of_many_standard_deviations(kernel_set):
    x = (torch.randn(2, 8, 20, 20, dtype=torch.float64) + 1000.0).to(DEVICE, torch.float32)
    if not kernel_set.takes(x):
        pytest.skip("not its dtype")
    _, cov = kernel_set.moments(x, x[:, :, 10, 10].contiguous(), 4)
    wide = exact(x, 4)
    deviation = wide - wide.mean(-1, keepdim=True)
    torch.testing.assert_close(cov.double(), deviation @ deviation.mT / 400, rtol=1e-4, atol=1e-5)


def test_an_unknown_backend_is_refused():
    with pytest.raises(UnknownName, match="Did you mean 'torch'"):
        kernels.kernels_for(torch.zeros(1, 4, 1, 1), "toch")


def test_auto_chooses_the_first_backend_that_takes_the_tensor():
    x = torch.zeros(1, 4, 1, 1)
    assert kernels.kernels_for(x).takes(x)
