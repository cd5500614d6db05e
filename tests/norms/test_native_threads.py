"""Whole layers in C: the same results with any number of threads and pass by pass, and nothing read
that is not plain memory.
"""

import gc
import weakref

import pytest
import torch

from swbench.native import library
from swbench.norms.kernels.native import NativeBackend
from swbench.norms.kernels.pass_by_pass import PassBackend
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d

pytestmark = pytest.mark.skipif(
    library.missing() is not None, reason="the native kernels are not built here"
)


def both_ways(make, x: torch.Tensor, training: bool = True) -> list[torch.Tensor]:
    """y, the gradients of x and of every parameter, and the running statistics, of a new layer with
    parameters that are not those of a new layer.
    """
    layer = make().train(training)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(torch.rand(p.shape, generator=generator))
    x = x.detach().requires_grad_()
    y = layer(x)
    y.backward(
        torch.randn(y.shape, generator=generator).to(
            memory_format=torch.channels_last if not x.is_contiguous() else torch.contiguous_format
        )
    )
    assert layer.chosen["kernels"] == "native"
    return [y, x.grad, *(p.grad for p in layer.parameters()), *layer.buffers()]


PAIRS = {
    "bw": (lambda: BatchWhiten2d(32, 16), 1),
    "iw": (lambda: InstanceWhiten2d(32, 16), 1),
    "swa": (lambda: SwitchWhiten2d(32, 16), 1),
    "many": (lambda: InstanceWhiten2d(64, 16), 2),
    "groups of 8": (lambda: InstanceWhiten2d(32, 8, affine=False), 1),
    "three images": (lambda: InstanceWhiten2d(16, 16), 3),
    "groups of 3": (lambda: InstanceWhiten2d(33, 3), 3),
    "groups of 6": (lambda: SwitchWhiten2d(36, 6), 1),
    "groups of 20": (lambda: SwitchWhiten2d(40, 20), 1),
}


BATCHES = {
    "bw": (lambda: BatchWhiten2d(32, 16), 3),
    "swa": (lambda: SwitchWhiten2d(32, 16), 3),
    "one group": (lambda: SwitchWhiten2d(16, 16), 4),
    "many groups": (lambda: SwitchWhiten2d(128, 16), 2),
    "groups of 6": (lambda: SwitchWhiten2d(36, 6), 2),
    "groups of 20": (lambda: SwitchWhiten2d(60, 20), 3),
    "with a layer statistic": (lambda: SwitchWhiten2d(32, 16, sw_type=5), 3),
}
TALL = (160, 161)


def of_threads(make, x: torch.Tensor, training: bool) -> list[list[torch.Tensor]]:
    """With one thread a group after the other; sums and maps by turns where groups are few for the
    threads; too many wait for others.
    """
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(both_ways(make, x, training))
    finally:
        torch.set_num_threads(threads)
    return results


def agree_to_the_last_bit(results: list[list[torch.Tensor]]) -> None:
    for other in results[1:]:
        for first, same in zip(results[0], other, strict=True):
            assert torch.equal(first, same)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(("make", "images"), PAIRS.values(), ids=PAIRS)
def test_pipelined_and_pass_by_pass_results_are_bitwise_equal(
    monkeypatch, make, images, last
) -> None:
    x = torch.randn(images, make().num_features, *TALL, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last) if last else x
    results = of_threads(make, x, True)
    monkeypatch.setattr(NativeBackend, "apply", PassBackend.apply)
    agree_to_the_last_bit([*results, both_ways(make, x)])


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(("make", "images"), BATCHES.values(), ids=BATCHES)
def test_batch_results_do_not_depend_on_the_number_of_threads(make, images, training, last) -> None:
    x = torch.randn(images, make().num_features, *TALL, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last) if last else x
    agree_to_the_last_bit(of_threads(make, x, training))


def test_a_negated_view_is_read_by_value() -> None:
    layer, x = SwitchWhiten2d(32, 16), torch.randn(2, 32, 4, 5)
    opposite = torch._neg_view(x)
    layer(x)
    assert torch.equal(layer(opposite), layer(-x))
    given = [x.clone().requires_grad_() for _ in range(2)]
    layer(given[0]).backward(opposite)
    layer(given[1]).backward(-x)
    assert torch.equal(given[0].grad, given[1].grad)


def test_a_deleted_layer_frees_its_memory() -> None:
    layer = SwitchWhiten2d(32, 16)
    layer(torch.randn(2, 32, 4, 5))
    reference_to_stat = weakref.ref(layer.running_cov)
    del layer
    gc.collect()
    assert reference_to_stat() is None


def test_a_tensor_of_an_ended_transform_is_unwrapped() -> None:
    layer, x = SwitchWhiten2d(32, 16), torch.randn(1, 32, 4, 5)
    left = []
    torch.func.grad(lambda image: (left.append(image), image.sum())[1])(x)
    assert torch.equal(layer(left[0]), layer(x))
