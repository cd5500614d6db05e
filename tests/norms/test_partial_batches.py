"""Where ranks will join: batch statistics merged from parts, and batch gradients summed over them,
give the whole batch's result.
"""

import pytest
import torch

from swbench import solvers
from swbench.norms.kernels import kernels_for
from swbench.norms.kernels.algebra import Parameters
from swbench.norms.statistics import Statistics, merge


def test_merged_statistics_equal_those_of_the_full_batch():
    x = torch.randn(3, 8, 4, 5, dtype=torch.float64) + 100 * torch.randn(
        3, 8, 1, 1, dtype=torch.float64
    )
    mean, cov = merge(*kernels_for(x).moments(x, x[:, :, 0, 0].contiguous(), 4))
    flat = x.transpose(0, 1).reshape(2, 4, -1)
    torch.testing.assert_close(mean, flat.mean(-1))
    deviation = flat - flat.mean(-1, keepdim=True)
    torch.testing.assert_close(cov, deviation @ deviation.mT / 60)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 3)])
def test_gradients_of_parts_equal_that_of_the_full_batch(make, sizes):
    layer, group = make(), 4
    if not layer.recipe.uses_batch:
        pytest.skip("takes nothing from the batch")
    x = torch.randn(sum(sizes), 8, 3, 5, dtype=torch.float64, requires_grad=True)
    dy = torch.randn_like(x)
    parameters = [
        p.detach() if p is not None else None for p in (layer.weight, layer.bias, *layer._logits())
    ]
    y = layer(x)
    expected_values = torch.autograd.grad(y, x, dy)[0]

    kernels, solver = kernels_for(x), solvers.get("eigh")
    batch = merge(
        *kernels.moments(x.detach(), torch.zeros(sum(sizes), 8, dtype=torch.float64), group)
    )

    def part(images, gradient, reduce):
        shift = torch.zeros(len(images), 8, dtype=torch.float64)
        stats = Statistics(*kernels.moments(images, shift, group), *batch, share=1 / sum(sizes))
        given = Parameters(*parameters)
        solved = kernels.mix_and_solve(layer.recipe, solver, stats, given)
        m, s = kernels.products(gradient, images, shift, group)
        grads = kernels.small_gradients(
            layer.recipe, solver, stats, given, solved, m, s, shift, 15, reduce
        )
        return kernels.affine(images, solved.a, solved.b), kernels.combine(
            gradient, images, solved.a.mT, grads.b, grads.c
        )

    parts = list(zip(x.detach().split(sizes), dy.split(sizes), strict=True))
    seen = []

    def record(*gradients):
        seen.append([g.clone() for g in gradients])
        return gradients

    for images, gradient in parts:
        part(images, gradient, record)
    total = tuple(a + b for a, b in zip(*seen, strict=True))
    sums = [part(images, gradient, lambda *_: total) for images, gradient in parts]
    torch.testing.assert_close(torch.cat([f[0] for f in sums]), y.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(
        torch.cat([f[1] for f in sums]), expected_values, rtol=1e-10, atol=1e-10
    )
