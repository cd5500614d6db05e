"""The networks run, forward and backward, with every norm, and are what the paper says they are."""

import pytest
import torch
from torch import nn

from swbench import models, norms
from swbench.errors import OptionError, UnknownName

LAYERS = {"resnet50": 7, "resnet50-seg": 7, "resnet20": 5, "stylizer": 15}
SIDE = {"resnet50": 64, "resnet50-seg": 33, "resnet20": 32, "stylizer": 48}


def step(net, side, batch=2):
    x = torch.rand(batch, 3, side, side)
    y = net(x)
    y.backward(torch.randn_like(y))
    return y


@pytest.mark.parametrize("norm", norms.names())
@pytest.mark.parametrize("model", ["resnet20", "stylizer"])
def test_small_networks_train_with_every_norm(model, norm):
    net = models.build(
        model, norm=norm, layers=0 if norm == "bn" else LAYERS[model], num_classes=10
    )
    y = step(net, SIDE[model])
    assert y.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("norm", ["bn", "swb"])
@pytest.mark.parametrize("model", ["resnet50", "resnet50-seg"])
def test_large_networks_train(model, norm):
    net = models.build(model, norm=norm, layers=0 if norm == "bn" else 7)
    assert step(net, SIDE[model], batch=1).isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize(
    ("model", "classes", "shape"),
    [
        ("resnet50", 10, (2, 10)),
        ("resnet50-seg", 150, (2, 150, 41, 57)),
        ("resnet32", None, (2, 10)),
        ("stylizer", None, (2, 3, 44, 60)),
    ],
)
def test_output_shapes(model, classes, shape):
    with torch.device("meta"):
        assert models.build(model, num_classes=classes)(torch.empty(2, 3, 41, 57)).shape == shape


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("resnet50", 25_557_032),  # as torchvision's
        ("resnet20", 269_722),  # He et al. 2016, table 6: 0.27 M, and so on
        ("resnet32", 464_154),
        ("resnet44", 658_586),
        ("resnet56", 853_018),
        ("resnet110", 1_727_962),
    ],
)
def test_parameters(model, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in models.build(model).parameters()) == parameters


def test_the_trunk_has_torchvisions_names():
    with torch.device("meta"):
        names = models.build("resnet50").state_dict().keys()
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer3.5.conv2.weight",
        "layer1.0.downsample.1.bias",
        "layer4.2.bn3.weight",
        "fc.bias",
    } <= set(names)


def test_stride_sits_in_the_3x3_and_dilation_replaces_it():
    with torch.device("meta"):
        plain, dilated = models.build("resnet50"), models.build("resnet50-seg")
    assert plain.layer3[0].conv1.stride == (1, 1)
    assert plain.layer3[0].conv2.stride == (2, 2)
    assert [getattr(dilated, f"layer{stage}")[0].conv2.dilation[0] for stage in (1, 2, 3, 4)] == [
        1,
        1,
        2,
        4,
    ]
    assert dilated.layer4[0].conv2.stride == (1, 1)


def test_the_norm_sits_where_the_placement_says():
    net = models.build("resnet50", norm="swa", layers=14, solver="eigh")
    whitened = [
        name for name, module in net.named_modules() if type(module).__name__ == "SwitchWhiten2d"
    ]
    assert whitened == ["bn1"] + [
        f"layer{stage}.{block}.bn2"
        for stage, blocks in ((1, 3), (2, 4), (3, 6))
        for block in range(blocks)
    ]


def test_norm_at_decides_every_norm():
    sites = []

    def norm_at(site):
        sites.append(site)
        return nn.GroupNorm(8, site.channels)

    net = models.build("resnet20", norm_at=norm_at)
    assert [site.conv_index for site in sites] == list(range(1, 20))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    with pytest.raises(ValueError, match="norm_at"):
        models.build("resnet20", layers=5, norm_at=norm_at)


def test_initial_weights_have_he_variance():
    net = models.build("resnet20")
    weight = net.layer3[1].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.03)


def test_invalid_arguments_are_refused_in_one_line():
    with pytest.raises(UnknownName, match="Did you mean 'resnet50'"):
        models.build("resnet5O")
    with pytest.raises(UnknownName, match="Did you mean 'swa'"):
        models.build("resnet50", norm="swaa", layers=7)
    with pytest.raises(OptionError, match="group 48"):
        models.build("resnet50", norm="swa", layers=7, group=48)
