"""The layers as modules: shapes, layouts, state dicts, mistakes, and what they say of
themselves.
"""

import pytest
import torch
from torch import nn
from torch.nn import functional

from swbench.errors import UnknownName
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d
from swbench.solvers.eigh import Eigh


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", [(1, 8, 5, 7), (3, 8, 4, 4), (2, 8, 1, 1), (1, 8, 1, 1)])
def test_the_memory_format_is_kept(make, shape, layout):
    x = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
    y = make()(x)
    y.backward(torch.randn(shape, dtype=torch.float64))
    assert y.stride() == x.stride()
    assert x.grad.isfinite().all()


def test_any_strides_are_taken(make):
    layer = make().eval()
    base = torch.randn(2, 8, 6, 10, dtype=torch.float64)
    torch.testing.assert_close(layer(base[..., ::2]), layer(base[..., ::2].contiguous()))
    y = layer(base.requires_grad_())
    torch.testing.assert_close(
        *(
            torch.autograd.grad(layer(base), base, dy)[0]
            for dy in (torch.ones(()).double().expand_as(y), torch.ones_like(y))
        )
    )


def test_relu_in_place_after_it(make):
    layer = make().eval()
    x = torch.randn(2, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(torch.relu(layer(x)).sum(), x)
    (actual,) = torch.autograd.grad(torch.relu_(layer(x)).sum(), x)
    assert torch.equal(actual, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_between_forward_and_backward_of_an_eval_call_changes_nothing(make, dtype):
    layer = make(dtype=dtype).eval()
    x, dy = (
        torch.randn(2, 8, 4, 4, dtype=dtype, requires_grad=True),
        torch.randn(2, 8, 4, 4, dtype=dtype),
    )
    (expected,) = torch.autograd.grad(layer(x), x, dy)
    y = layer(x)
    layer.train()(torch.randn(2, 8, 4, 4, dtype=dtype))
    (actual,) = torch.autograd.grad(y, x, dy)
    assert torch.equal(actual, expected)


def test_saves_only_the_input_at_full_size(make):
    sizes = []
    x = torch.randn(1, 8, 32, 32, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: sizes.append(t.numel()) or t, lambda t: t
    ):
        make()(x)
    assert sum(size == x.numel() for size in sizes) == 1
    assert sorted(sizes)[-2] <= 8 * 4


@pytest.mark.parametrize("sw_type", [2, 5])
def test_works_after_a_call_with_fake_tensors(sw_type):
    def layer():
        # a group no other test has, so that nothing is kept yet
        return SwitchWhiten2d(12, 6, sw_type, solver="eigh", kernels="torch")

    with torch._subclasses.FakeTensorMode():
        layer()(torch.randn(2, 12, 4, 4)).sum()
    x = torch.randn(2, 12, 4, 4, requires_grad=True)
    layer()(x).sum().backward()
    assert type(x.grad) is torch.Tensor


def test_works_after_inference_mode(make):
    layer = make(12, 3)
    with torch.inference_mode():
        layer(torch.randn(2, 12, 3, 3, dtype=torch.float64))
    x = torch.randn(2, 12, 3, 3, dtype=torch.float64, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(
    ("sw_type", "tie", "keys"),
    [
        (2, False, {"sw_mean_weight": (2,), "sw_var_weight": (2,)}),
        (3, False, {"sw_mean_weight": (3,), "sw_var_weight": (3,)}),
        (5, False, {"sw_mean_weight": (5,), "sw_var_weight": (5,)}),
        (5, True, {"sw_mean_weight": (5,)}),
    ],
)
def test_the_state_dict_is_the_public_one(sw_type, tie, keys):
    layer = SwitchWhiten2d(64, num_pergroup=16, sw_type=sw_type, tie_weight=tie)
    public = keys | {
        "weight": (64,),
        "bias": (64,),
        "running_mean": (4, 16, 1),
        "running_cov": (4, 16, 16),
    }
    assert {name: tuple(value.shape) for name, value in layer.state_dict().items()} == public
    layer.load_state_dict({name: torch.rand(shape) for name, shape in public.items()})


def test_an_untrained_layer_in_eval_mode_changes_little():
    x = torch.randn(2, 16, 4, 4)
    torch.testing.assert_close(BatchWhiten2d(16).eval()(x), x, rtol=1e-4, atol=1e-4)


ALONE = {
    "bn": lambda x: functional.batch_norm(x, None, None, training=True),
    "in": lambda x: functional.instance_norm(x),
    "ln": lambda x: functional.group_norm(x, 1),
    "bw": lambda x: BatchWhiten2d(8, 4, affine=False)(x),
    "iw": lambda x: InstanceWhiten2d(8, 4, affine=False)(x),
}


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(("position", "name"), list(enumerate(("bw", "iw", "bn", "in", "ln"))))
def test_each_statistic_of_swb_has_its_own_weight(position, name, images):
    """The public code gives the covariances of bn and in the weights of bw and iw."""
    layer = SwitchWhiten2d(8, 4, sw_type=5, affine=False).double()
    with torch.no_grad():
        layer.sw_mean_weight.zero_()[position] = 60
        layer.sw_var_weight.zero_()[position] = 60
    x = (
        torch.randn(images, 8, 5, 5, dtype=torch.float64) @ torch.randn(5, 5, dtype=torch.float64)
        + 2
    )
    torch.testing.assert_close(layer(x), ALONE[name](x), rtol=1e-9, atol=1e-9)


def test_mean_and_covariance_have_separate_weights():
    layer = SwitchWhiten2d(8, 4, sw_type=2, affine=False).double()
    with torch.no_grad():
        layer.sw_mean_weight.copy_(torch.tensor([60.0, 0.0]))
        layer.sw_var_weight.copy_(torch.tensor([0.0, 60.0]))
    x = torch.randn(2, 8, 5, 5, dtype=torch.float64)
    offset = InstanceWhiten2d(8, 4, affine=False)(x) - layer(x)
    torch.testing.assert_close(offset, offset[..., :1, :1].expand_as(offset))
    assert offset.abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(2, 12, 3, 3), (8, 3, 3), (2, 8, 9), ()])
def test_a_wrong_shape_names_both(make, shape):
    if make.cls is InstanceWhiten2d and len(shape) == 3 and shape[0] == 8:
        pytest.skip("one image alone, which nn.InstanceNorm2d takes as well")
    with pytest.raises(ValueError, match=r"\(N, 8, H, W\), not \(" + ", ".join(map(str, shape))):
        make()(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(0, 8, 3, 3), (2, 8, 0, 3)])
def test_an_empty_input_is_refused(make, shape):
    with pytest.raises(ValueError, match="holds no pixels"):
        make()(torch.zeros(shape))


@pytest.mark.parametrize("group", [3, 0, -4, 16])
def test_a_group_that_does_not_divide_names_both(make, group):
    with pytest.raises(ValueError, match=f"8 channels.* groups of {group}"):
        make.cls(8, group, **make.options)


def test_invalid_arguments_are_refused_by_the_constructor():
    with pytest.raises(ValueError, match="sw_type must be one of 2, 3, 5, not 4"):
        SwitchWhiten2d(16, sw_type=4)
    with pytest.raises(UnknownName, match="Did you mean 'eigh'"):
        BatchWhiten2d(16, solver="eig")
    with pytest.raises(UnknownName, match="no backend is called 'toch'"):
        BatchWhiten2d(16, kernels="toch")


def test_chosen_and_repr(make):
    layer = make(kernels="torch")
    assert layer.chosen == {}
    layer(torch.randn(1, 8, 2, 2, dtype=torch.float64))
    assert layer.chosen == {"solver": "eigh", "kernels": "torch"}
    assert "8, num_pergroup=4, solver=eigh, eps=1e-05, momentum=0.99, affine=True" in repr(layer)


def test_a_solver_object_can_be_passed():
    layer = BatchWhiten2d(16, solver=Eigh(backward="paper"))
    layer(torch.randn(2, 16, 4, 4))
    assert layer.chosen["solver"] == "eigh"


def test_paper_flops():
    """One image of 64 channels has 4 matrices of 16×16; 2G + 3 = 35 and 2G + 5 = 37 an element."""
    elements = 64 * 112 * 112
    assert BatchWhiten2d(64).paper_flops((1, 64, 112, 112)) == 35 * elements + 4 * 16**3
    assert SwitchWhiten2d(64).paper_flops((2, 64, 112, 112)) == 2 * (35 * elements + 4 * 16**3)
    assert SwitchWhiten2d(64, sw_type=5).paper_flops((1, 64, 112, 112)) == 37 * elements + 4 * 16**3


def test_layers_can_be_copied_and_pickled(make, tmp_path):
    layer = make()
    x = torch.randn(2, 8, 3, 3, dtype=torch.float64)
    expected = layer.eval()(x)
    torch.save(layer, tmp_path / "layer.pt")
    second = torch.load(tmp_path / "layer.pt", weights_only=False)
    assert torch.equal(second(x), expected)


def test_layers_train():
    net = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        SwitchWhiten2d(16, sw_type=5),
        nn.ReLU(inplace=True),
        nn.Conv2d(16, 1, 1),
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    x, target = torch.randn(4, 3, 8, 8), torch.randn(4, 1, 6, 6)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = functional.mse_loss(net(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("train", [True, False])
def test_layers_run_on_the_meta_device(make, train):
    layer = make(dtype=torch.float32, train=train).to("meta")
    assert layer(torch.empty(2, 8, 300, 300, device="meta", requires_grad=True)).shape == (
        2,
        8,
        300,
        300,
    )
