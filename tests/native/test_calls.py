"""Whole layers called without ctypes: the same results, and nothing taken that is not plain memory
of the right shape.
"""

import gc
import sys
import weakref
from types import SimpleNamespace

import pytest
import torch

from swbench.native import library
from swbench.norms.kernels.aten import AtenKernels
from swbench.norms.kernels.native import NativeKernels
from swbench.norms.kernels.native_whole import Whole
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d

needs_library = pytest.mark.skipif(
    library.missing() is not None, reason="the native kernels are not built here"
)
pytestmark = needs_library
needs_calls = pytest.mark.skipif(
    library.calls() is None, reason="no headers of Python at build time, or torch before 2.10"
)

LAYERS = {
    "bw": lambda: BatchWhiten2d(32, 16),
    "iw": lambda: InstanceWhiten2d(32, 16),
    "plain iw": lambda: InstanceWhiten2d(32, 8, affine=False),
    "swa": lambda: SwitchWhiten2d(32, 16),
    "tied": lambda: SwitchWhiten2d(32, 16, tie_weight=True),
    "sw 3": lambda: SwitchWhiten2d(32, 8, sw_type=3),
    "swb": lambda: SwitchWhiten2d(32, 16, sw_type=5),
}


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


def ready_of(layer) -> Whole:
    (ready,) = layer._ready.values()
    return ready.bound


@needs_calls
@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_what_ctypes_calls_and_what_it_does_not_call_agree_to_the_last_bit(
    monkeypatch, make, images, last, training
) -> None:
    x = torch.randn(images, 32, 5, 7, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last) if last else x
    with monkeypatch.context() as alone:
        # so that nothing but the module in C can have done it
        alone.setattr(Whole, "forward", None)
        alone.setattr(Whole, "backward", None)
        direct = both_ways(make, x, training)
    monkeypatch.setattr(library, "calls", lambda: None)
    for one, other in zip(direct, both_ways(make, x, training), strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


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
        for one, same in zip(results[0], other, strict=True):
            assert torch.equal(one, same)


@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(("make", "images"), PAIRS.values(), ids=PAIRS)
def test_group_by_group_in_turns_and_pass_by_pass_agree_to_the_last_bit(
    monkeypatch, make, images, last
) -> None:
    x = torch.randn(images, make().num_features, *TALL, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last) if last else x
    results = of_threads(make, x, True)
    monkeypatch.setattr(NativeKernels, "bind", AtenKernels.bind)
    monkeypatch.setattr(Whole, "bound", None)
    agree_to_the_last_bit([*results, both_ways(make, x)])


@pytest.mark.parametrize("training", [True, False], ids=["training", "eval"])
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels_last"])
@pytest.mark.parametrize(("make", "images"), BATCHES.values(), ids=BATCHES)
def test_of_a_batch_a_result_does_not_depend_on_the_threads(make, images, training, last) -> None:
    x = torch.randn(images, make().num_features, *TALL, generator=torch.Generator().manual_seed(0))
    x = x.to(memory_format=torch.channels_last) if last else x
    agree_to_the_last_bit(of_threads(make, x, training))


def test_a_view_whose_memory_holds_the_opposite_is_read_as_what_it_stands_for() -> None:
    layer, x = SwitchWhiten2d(32, 16), torch.randn(2, 32, 4, 5)
    opposite = torch._neg_view(x)
    layer(x)
    assert torch.equal(layer(opposite), layer(-x))
    given = [x.clone().requires_grad_() for _ in range(2)]
    layer(given[0]).backward(opposite)
    layer(given[1]).backward(-x)
    assert torch.equal(given[0].grad, given[1].grad)


@needs_calls
def test_only_plain_memory_of_the_right_shape_is_taken() -> None:
    layer, x = SwitchWhiten2d(32, 16), torch.randn(2, 32, 4, 5)
    layer(x)
    call, given = (
        ready_of(layer).call,
        [layer.weight, layer.bias, layer.sw_mean_weight, layer.sw_var_weight],
    )
    others = [
        x.double(),
        x[:1],
        x.to(memory_format=torch.channels_last),
        x[:, :, :, :4],
        x.flatten(2),
        x.expand(2, 32, 4, 5)[:, :1].expand(2, 32, 4, 5),
        x.to("meta"),
        x.to_sparse(),
        x.as_subclass(type("Other", (torch.Tensor,), {})),
        torch._neg_view(x),
        None,
        3,
    ]
    assert call.takes(x, *given)
    assert not [other for other in others if call.takes(other, *given)]
    kept, shape = layer.running_cov.data, layer.running_cov.shape
    for other in (
        kept.flatten(),
        kept.mT.contiguous().mT,
        kept.double(),
        torch.zeros(1).expand(shape),
    ):
        layer.running_cov.data = other
        assert not call.takes(x, *given)
    layer.running_cov.data = kept
    for i in range(4):
        for other in (
            given[i].double(),
            given[i][:-1],
            torch.ones(64)[::2] if i < 2 else torch.ones(4)[::2],
            1.0,
        ):
            assert not call.takes(x, *given[:i], other, *given[i + 1 :])
        assert call.takes(x, *given[:i], None, *given[i + 1 :])
    y, room = call.forward(x, *given)
    wanted = (True,) * 5 + (False,)
    assert call.backward(torch.ones_like(y), x, room, wanted) is not None
    assert call.backward(torch.ones_like(y), x, room.double(), wanted) is None
    assert call.backward(torch.ones_like(y), x, room[:-1], wanted) is None
    assert call.backward(torch.ones(1).expand_as(y), x, room, wanted) is None
    assert call.backward(torch._neg_view(y), x, room, wanted) is None
    assert call.backward(y, torch._neg_view(x), room, wanted) is None
    assert call.forward(x.double(), *given) is None


@needs_calls
def test_wrong_arguments_are_refused() -> None:
    layer, x = SwitchWhiten2d(32, 16), torch.randn(2, 32, 4, 5)
    layer(x)
    call = ready_of(layer).call
    with pytest.raises(TypeError, match="four parameters"):
        call.forward(x)
    with pytest.raises(TypeError, match="four parameters"):
        call.takes(x, None)
    with pytest.raises(TypeError, match="a tuple of 6"):
        call.backward(x, x, x, (True,))
    with pytest.raises(TypeError):
        type(call)(1, 2)


@needs_calls
def test_nothing_is_kept_of_a_call() -> None:
    layer, x = SwitchWhiten2d(32, 16), torch.randn(2, 32, 4, 5)
    layer(x)
    whole, given = (
        ready_of(layer),
        [layer.weight, layer.bias, layer.sw_mean_weight, layer.sw_var_weight],
    )
    watched = (x, *given, *whole.like, layer.running_mean, torch.empty_like, None, True)

    def there_and_back() -> None:
        y, room = whole.call.forward(x, *given)
        whole.call.backward(y, x, room, (True, False, True, False, True, False))
        whole.call.forward(x.double(), *given)

    there_and_back()
    before = [sys.getrefcount(thing) for thing in watched]
    for _ in range(100):
        there_and_back()
    assert (
        max(abs(sys.getrefcount(thing) - then) for thing, then in zip(watched, before, strict=True))
        < 20
    )
    y, room = whole.call.forward(x, *given)
    made = [y, room, *whole.call.backward(y, x, room, (True,) * 5 + (False,))[:5]]
    gone = [weakref.ref(one) for one in made]
    del y, room, made
    assert not [one for one in gone if one() is not None]


@needs_calls
def test_a_layer_that_is_dropped_takes_its_calls_along() -> None:
    layer = SwitchWhiten2d(32, 16)
    layer(torch.randn(2, 32, 4, 5))
    gone = weakref.ref(layer.running_cov)
    del layer
    gc.collect()
    assert gone() is None


@needs_calls
def test_a_torch_whose_tensors_cannot_be_read_is_left_to_ctypes() -> None:
    join = library.module().join
    try:
        assert not join(SimpleNamespace(Tensor=object, nn=torch.nn))
        assert not join(SimpleNamespace())
    finally:
        assert join(torch)


def test_a_transform_of_functorch_is_refused_as_by_every_function_without_a_rule() -> None:
    layer, x = SwitchWhiten2d(32, 16), torch.randn(1, 32, 4, 5)
    with pytest.raises(RuntimeError, match="functorch"):
        torch.func.vmap(lambda offset: layer(x).sum() + offset)(torch.zeros(2))
    with pytest.raises(RuntimeError, match="functorch"):
        torch.func.grad(lambda image: layer(image).sum())(x)
    left = []
    torch.func.grad(lambda image: (left.append(image), image.sum())[1])(x)
    # what a transform leaves behind is the tensor it wrapped
    assert torch.equal(layer(left[0]), layer(x))
