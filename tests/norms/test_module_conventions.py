"""The layers keep the conventions of torch's own modules: where they are made, how they start
again, what running statistics do, what is loaded.
"""

import copy
import warnings

import pytest
import torch
from torch import nn
from whitening_layers import WHITENING

from swbench import update_statistics
from swbench.norms import layer_state
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d

KINDS = [name for name in WHITENING if name != "iw"]


def build(name, *args, **options):
    cls, given = WHITENING[name]
    return cls(*(args or (8, 4)), **given, **options)


def same_state(first, second):
    assert first.state_dict().keys() == second.state_dict().keys()
    for name, value in first.state_dict().items():
        assert value.dtype == second.state_dict()[name].dtype
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize("name", WHITENING)
def test_device_and_dtype(name):
    layer = build(name, device="meta", dtype=torch.float64)
    assert {(t.device.type, t.dtype) for t in (*layer.parameters(), *layer.buffers())} == {
        ("meta", torch.float64)
    }


@pytest.mark.parametrize("momentum", [0.99, None])
@pytest.mark.parametrize("name", WHITENING)
def test_reset_parameters_after_the_meta_device_gives_a_new_layer(name, momentum):
    with torch.device("meta"):
        layer = build(name, momentum=momentum)
    layer.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*layer.parameters(), *layer.buffers()):
            tensor.fill_(7)
    layer.reset_parameters()
    same_state(layer, build(name, momentum=momentum))


@pytest.mark.parametrize("name", KINDS)
def test_reset_running_stats_leaves_the_parameters(name):
    layer = build(name, momentum=None)
    layer(torch.randn(2, 8, 3, 3))
    layer.weight.data.fill_(3)
    layer.reset_running_stats()
    assert layer.num_batches_tracked == 0
    assert torch.equal(layer.running_cov, torch.eye(4).repeat(2, 1, 1))
    assert not layer.running_mean.any()
    assert (layer.weight == 3).all()


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("name", KINDS)
def test_without_running_statistics_eval_mode_uses_the_batch(name, kernels):
    layer = build(name, track_running_stats=False, kernels=kernels)
    assert layer.running_mean is None
    assert not {"running_mean", "running_cov"} & layer.state_dict().keys()
    assert "track_running_stats=False" in repr(layer)
    x = torch.randn(3, 8, 4, 4, requires_grad=True)
    expected = build(name, kernels=kernels)(x)
    assert torch.equal(layer(x), expected)
    assert torch.equal(layer.eval()(x), expected)
    assert torch.autograd.grad(layer(x).sin().sum(), x)[0].isfinite().all()
    layer.reset_parameters()


@pytest.mark.parametrize("kernels", ["auto", "torch"])
@pytest.mark.parametrize("name", KINDS)
def test_running_decay_none_is_the_average_over_all_batches(name, kernels):
    layer = build(name, running_decay=None, kernels=kernels)
    reference, norm = BatchWhiten2d(8, 4, running_decay=0.0), nn.BatchNorm2d(8, momentum=None)
    means, covs = [], []
    for _ in range(3):
        x = torch.randn(2, 8, 4, 4) + torch.randn(1, 8, 1, 1)
        layer(x), norm(x), reference(x)
        means.append(reference.running_mean.clone())
        covs.append(reference.running_cov.clone())
    layer.eval()(x)
    assert layer.num_batches_tracked == norm.num_batches_tracked == 3
    torch.testing.assert_close(layer.running_mean, sum(means) / 3)
    torch.testing.assert_close(layer.running_cov, sum(covs) / 3)
    torch.testing.assert_close(layer.running_mean.flatten(), norm.running_mean)


def test_running_decay_may_be_set_to_none_later():
    layer = BatchWhiten2d(8, 4)
    layer.running_decay = None
    assert layer.momentum is None
    layer(torch.randn(2, 8, 4, 4))
    assert layer.num_batches_tracked == 1


def test_momentum_is_an_alias_and_warns_once():
    layer_state._warn_of_momentum.cache_clear()
    with pytest.warns(UserWarning, match="weight of the OLD.*write running_decay=0.9") as seen:
        layers = [SwitchWhiten2d(8, 4, momentum=0.1) for _ in range(3)]
    assert len(seen) == 1
    assert layers[0].running_decay == layers[0].momentum == 0.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert BatchWhiten2d(8, 4, running_decay=0.1).momentum == 0.1
        assert BatchWhiten2d(8, 4, momentum=0.9).running_decay == 0.9
    with pytest.raises(ValueError, match="two names of the same setting"):
        BatchWhiten2d(8, 4, momentum=0.9, running_decay=0.9)
    with pytest.raises(ValueError, match="must lie in"):
        BatchWhiten2d(8, 4, running_decay=1.1)


def test_running_decay_is_one_minus_the_momentum_of_batch_norm():
    x = torch.randn(4, 8, 5, 5)
    layer, norm = BatchWhiten2d(8, 4, running_decay=0.9), nn.BatchNorm2d(8, momentum=0.1)
    layer(x), norm(x)
    torch.testing.assert_close(layer.running_mean.flatten(), norm.running_mean)


@pytest.mark.parametrize("name", WHITENING)
def test_instance_whitening_takes_an_unbatched_image(name):
    layer, image = build(name), torch.randn(8, 4, 5)
    if name == "iw":
        assert torch.equal(layer(image), layer(image.unsqueeze(0)).squeeze(0))
        assert nn.InstanceNorm2d(8)(image).shape == image.shape
        with pytest.raises(ValueError, match=r"\(4, 8, 5\)"):
            layer(image.transpose(0, 1))
        return
    for module in (layer, nn.BatchNorm2d(8)):
        with pytest.raises(ValueError, match=r"\(8, 4, 5\)|got 3D input"):
            module(image)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", WHITENING)
def test_half_precision_as_batch_norm(name, dtype):
    layer, norm = build(name).to(dtype), nn.BatchNorm2d(8).to(dtype)
    assert {t.dtype for t in (*layer.parameters(), *layer.buffers())} == {dtype}
    x = torch.randn(4, 8, 5, 5)
    given = x.to(dtype).requires_grad_()
    for module in (layer, norm, layer.eval(), norm.eval()):
        y = module(given)
        y.float().sin().sum().backward()
        assert y.dtype == given.grad.dtype == dtype
        assert all(p.grad.dtype == dtype and p.grad.isfinite().all() for p in module.parameters())
    exact = build(name)
    torch.testing.assert_close(layer.train()(given).float(), exact(x), rtol=3e-2, atol=3e-2)


@pytest.mark.parametrize("name", KINDS)
def test_state_dicts_of_other_settings_load_strictly(name):
    plain, counting = build(name), build(name, momentum=None)
    for layer in (plain, counting):
        layer(torch.randn(2, 8, 4, 4))
    for source in (plain, counting):
        for momentum in (0.99, None):
            built = nn.Sequential(build(name, momentum=momentum))
            built.load_state_dict(nn.Sequential(source).state_dict())
            assert torch.equal(built[0].running_cov, source.running_cov)
    with torch.device("meta"):
        built = build(name, momentum=None)
    built.load_state_dict(plain.state_dict(), assign=True)
    assert built.num_batches_tracked == 0
    built(torch.randn(2, 8, 4, 4))


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        SwitchWhiten2d(8, 4, sw_type=5),
        nn.BatchNorm2d(8),
        BatchWhiten2d(8, 4, momentum=None),
        InstanceWhiten2d(8, 4),
    )


def test_update_statistics_uses_only_the_data():
    model = network()
    model(torch.randn(4, 3, 6, 6) * 100)
    model.eval()[2].train()
    batches = [torch.randn(2, 3, 6, 6) + 1 for _ in range(3)]
    expected = network().train()
    expected.load_state_dict(model.state_dict())
    expected[1].momentum = expected[2].momentum = None
    for layer in expected[1:4]:
        layer.reset_running_stats()
    with torch.no_grad():
        for x in batches:
            expected(x)
    update_statistics(((x, "a label") for x in batches), model)
    for name, buffer in expected.named_buffers():
        if name != "1.num_batches_tracked":
            torch.testing.assert_close(buffer, dict(model.named_buffers())[name])
    assert [m.momentum for m in model[1:4]] == [0.99, 0.1, None]
    assert [m.training for m in model] == [False, False, True, False, False]
    assert "1.num_batches_tracked" not in model.state_dict()
    update_statistics(batches, nn.Sequential(nn.ReLU(), InstanceWhiten2d(8, 4)))  # has none


def test_statistics_of_an_averaged_model():
    model, x = network(), torch.randn(8, 3, 6, 6)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    torch.optim.swa_utils.update_bn([x], averaged)
    stale = averaged.module[1].running_cov.clone()
    update_statistics([x], averaged)
    torch.testing.assert_close(stale, torch.eye(4).repeat(2, 1, 1), atol=0.05, rtol=0)
    expected = copy.deepcopy(averaged.module[1])
    expected.momentum = 0.0
    with torch.no_grad():
        expected.train()(averaged.module[0](x))
    torch.testing.assert_close(averaged.module[1].running_cov, expected.running_cov)
    assert (expected.running_cov - torch.eye(4)).abs().max() > 0.2
