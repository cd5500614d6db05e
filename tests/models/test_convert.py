"""Conversion puts other norms at the chosen sites with all that was there, and changes nothing
else.
"""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from swbench import norms
from swbench.errors import OptionError, UnknownName
from swbench.models.convert import convert_norms, output_change
from swbench.models.named import imported
from swbench.models.swapping import swap_norms
from swbench.norms.diagonal import InstanceNorm2d
from swbench.norms.layers import BatchWhiten2d, SwitchWhiten2d
from swbench.norms.replacement import NormAct2d


def net(**settings):
    """Two convolutions with a norm each that has seen data, in float64."""
    first = nn.BatchNorm2d(16, **{"eps": 1e-3, "momentum": 0.03} | settings)
    built = nn.Sequential(nn.Conv2d(3, 16, 3), first, nn.ReLU(), nn.Conv2d(16, 32, 3))
    built.append(nn.BatchNorm2d(32)).double()
    with torch.no_grad():
        for norm in (built[1], built[4]):
            if norm.affine:
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_()
        for _ in range(3):
            built(images())
    return built


def images(batch=4):
    return 3 * torch.randn(batch, 3, 10, 10, dtype=torch.float64) + 1


def bw_at(*numbers):
    """What a plugin's `norm_at` does: batch whitening at some sites, fresh norms elsewhere."""
    return lambda site: (
        norms.build("bw", site.channels)
        if site.conv_index in numbers
        else nn.BatchNorm2d(site.channels)
    )


# what used to go wrong without a word


def test_swapping_leaves_sites_that_are_not_chosen_as_they_are():
    built = net().eval()
    untouched, x = built[4], images()
    before = built(x)
    swapped = swap_norms(built, bw_at(1))
    assert swapped[4] is untouched
    assert torch.allclose(swapped(x), before, rtol=1e-12, atol=1e-12)


def test_swapping_keeps_the_activation_of_timms_norm():
    norm_act = imported("timm").layers.BatchNormAct2d
    built = nn.Sequential(nn.Conv2d(3, 16, 1), norm_act(16, act_layer=nn.SiLU, inplace=False))
    built.eval()
    x = images().float()
    before = built(x)
    assert torch.equal(swap_norms(copy.deepcopy(built), bw_at())(x), before)
    whitened = swap_norms(copy.deepcopy(built), bw_at(1))
    assert isinstance(whitened[1].act, nn.SiLU)
    assert output_change(built, whitened, x) < 1e-6


def test_a_factory_made_in_a_loop_can_be_registered(model_tables):
    from swbench import models

    for width in (8, 16):

        def tiny(norm_at, num_classes=3, width=width):
            built = nn.Sequential(nn.Conv2d(3, width, 1), nn.BatchNorm2d(width))
            return swap_norms(built, norm_at)

        models.add(f"tiny-{width}", tiny, placements={1: (1,)})
    models.add("tiny-part", partial(tiny, width=4))
    models.add("tiny-lambda", lambda norm_at: tiny(norm_at, width=2))
    assert models.build("tiny-8", "bw", 1, group=4)[1].num_features == 8
    assert models.build("tiny-part")[1].num_features == 4
    assert models.build("tiny-lambda")[1].num_features == 2


# what is handed over


def test_conversion_to_batch_whitening_keeps_the_output():
    built = net().eval()
    assert output_change(built, convert_norms(built, "bw"), images()) < 1e-13


@pytest.mark.parametrize("norm", ["swa", "swb"])
def test_conversion_with_all_weight_on_the_batch_keeps_the_output(norm):
    built, x = net().eval(), images()
    assert output_change(built, convert_norms(built, norm, mix="batch"), x) < 1e-13
    assert output_change(built, convert_norms(built, norm), x) > 0.1


def test_conversion_to_bn_is_the_same_network_in_training_too():
    built, x = net(), images()
    converted = convert_norms(built, "bn")
    assert converted[1] is not built[1]
    assert torch.equal(converted(x), built(x))
    assert torch.equal(converted.eval()(x), built.eval()(x))
    own, reference_output = converted.state_dict(), built.state_dict()
    assert own.keys() == reference_output.keys()
    assert all(torch.equal(own[key], reference_output[key]) for key in own)


def test_only_chosen_sites_change_and_everything_else_is_the_same_object():
    built = net()
    others = {path: m for path, m in built.named_modules() if path != "1"}
    weight = built[1].weight
    converted = convert_norms(built, "swa", 1, inplace=True)
    assert converted is built
    assert isinstance(built[1], SwitchWhiten2d)
    assert {p: m for p, m in built.named_modules() if p != "1"} == others
    assert built[1].weight is weight, "an optimizer made before goes on with it"


def test_a_copy_leaves_the_original_alone():
    built = net()
    convert_norms(built, "bw")
    assert all(type(built[i]) is nn.BatchNorm2d for i in (1, 4))


def test_converting_no_site_changes_nothing():
    built, x = net(), images()
    modules, before = list(built.modules()), built.eval()(x)
    same = convert_norms(built, "bw", [], inplace=True)
    assert list(same.modules()) == modules
    assert torch.equal(same(x), before)


def test_settings_are_transferred_with_momentum_inverted():
    built = net().eval()
    built[1].weight.requires_grad_(False)
    layer = convert_norms(built, "swa")[1]
    assert layer.recipe.eps == 1e-3
    assert layer.momentum == pytest.approx(0.97)
    assert not layer.training
    assert not layer.weight.requires_grad
    assert layer.bias.requires_grad
    assert not layer.sw_mean_weight.requires_grad, "a frozen norm stays frozen"
    assert {t.dtype for t in (*layer.parameters(), *layer.buffers())} == {torch.float64}
    assert torch.equal(layer.running_mean.flatten(), built[1].running_mean)
    assert torch.equal(layer.running_cov.diagonal(dim1=1, dim2=2).flatten(), built[1].running_var)


def test_running_statistics_are_updated_as_those_of_the_norm():
    built, x = net(), images()
    converted = convert_norms(built, "bw", 1)
    conv = built[0](x).detach()
    built[1](conv)
    converted[1](conv)
    assert torch.allclose(converted[1].running_mean.flatten(), built[1].running_mean, rtol=1e-12)


def test_without_momentum_statistics_are_the_average_of_all_batches():
    built = net(momentum=None)
    assert built[1].num_batches_tracked == 3
    converted = convert_norms(built, "bw", 1)
    second = copy.deepcopy(converted)
    for _ in range(2):
        conv = built[0](images()).detach()
        built[1](conv)
        second[1](conv)
    assert second[1].num_batches_tracked == built[1].num_batches_tracked == 5
    assert torch.allclose(second[1].running_mean.flatten(), built[1].running_mean, rtol=1e-12)
    assert converted[1].num_batches_tracked == 3


@pytest.mark.parametrize("norm", ["bw", "swa", "swb"])
def test_converted_without_running_statistics_eval_mode_uses_the_batch(norm):
    built = net(track_running_stats=False)
    converted = convert_norms(built, norm, 1)
    conv = built[0](images()).detach()
    trained = converted.train()[1](conv)
    assert torch.equal(converted.eval()[1](conv), trained)
    assert not {"1.running_mean", "1.running_cov"} & converted.state_dict().keys()
    if norm == "bw":
        assert trained.mean((0, 2, 3)).sub(built[1].bias).abs().max() < 1e-12


def test_without_weight_and_bias_there_are_none():
    for norm in norms.names():
        layer = convert_norms(net(affine=False), norm, 1)[1]
        assert layer.weight is None
        assert layer.bias is None
        assert layer(net()[0](images()).detach()).isfinite().all()


def test_a_weight_without_bias_is_transferred():
    built = net().eval()
    built[1].bias = None
    converted = convert_norms(built, "bw", 1)
    assert converted[1].bias is None
    assert output_change(built, converted, images()) < 1e-13
    converted.train()(images()).sum().backward()
    assert converted[1].weight.grad is not None


def test_half_precision_and_the_meta_device_are_kept():
    half = convert_norms(net().to(torch.bfloat16), "swa", 1)[1]
    assert half.sw_mean_weight.dtype == half.running_cov.dtype == torch.bfloat16
    meta = convert_norms(net().to("meta"), "swa", 1)[1]
    assert all(t.is_meta for t in (*meta.parameters(), *meta.buffers()))


def test_a_module_used_at_two_places_is_converted_once_and_shared():
    shared = nn.BatchNorm2d(16)
    built = nn.ModuleDict(
        {"a": nn.Sequential(shared), "b": nn.Sequential(nn.Conv2d(16, 16, 1), shared)}
    )
    converted = convert_norms(built, "bw")
    assert isinstance(converted["a"][0], BatchWhiten2d)
    assert converted["b"][1] is converted["a"][0]
    assert convert_norms(built, "bw", "b.1")["a"][0].num_features == 16


def test_a_model_that_is_itself_a_norm_is_replaced():
    assert isinstance(convert_norms(nn.BatchNorm2d(16), "bw"), BatchWhiten2d)


def test_hooks_are_transferred_and_their_handles_still_remove_them():
    built, seen = net(), []
    built[1].register_forward_pre_hook(lambda module, args: seen.append(("pre", type(module))))
    handle = built[1].register_forward_hook(
        lambda module, args, kwargs, y: seen.append(("post", y.shape)), with_kwargs=True
    )
    built[1].register_full_backward_hook(lambda module, dx, dy: seen.append(("back", len(dx))))
    convert_norms(built, "bw", inplace=True)
    built(images(2)).sum().backward()
    assert seen == [("pre", BatchWhiten2d), ("post", (2, 16, 8, 8)), ("back", 1)]
    handle.remove()
    seen.clear()
    built(images(2))
    assert seen == [("pre", BatchWhiten2d)]


def test_other_attributes_of_the_norm_are_transferred():
    built = net()
    built[1].tag = "stem"
    assert convert_norms(built, "bw")[1].tag == "stem"


def test_a_synchronised_norm_keeps_its_group():
    built = nn.SyncBatchNorm.convert_sync_batchnorm(net())
    assert convert_norms(built, "bw", 1)[1].process_group == "world"
    built[1].process_group = group = object()
    assert convert_norms(built, "swa", 1)[1].process_group is group
    stays = nn.SyncBatchNorm.convert_sync_batchnorm(net())
    assert type(convert_norms(stays, "bn")[1]) is nn.SyncBatchNorm


def test_timms_norm_is_replaced_with_its_dropout_and_activation():
    timm = imported("timm")
    built = timm.layers.BatchNormAct2d(16, act_layer=nn.SiLU, drop_layer=nn.Dropout)
    drop, act = built.drop, built.act
    seen = []
    built.register_forward_hook(lambda module, args, y: seen.append(y.min().item()))
    outer = nn.Sequential(built).eval()
    x = torch.randn(2, 16, 5, 5)
    before = outer(x)
    converted = convert_norms(outer, "bw", inplace=True)
    assert isinstance(converted[0], NormAct2d)
    assert converted[0].drop is drop
    assert converted[0].act is act
    assert torch.allclose(converted(x), before, atol=1e-6)
    assert len(seen) == 2
    assert seen[0] == pytest.approx(seen[1], abs=1e-6), "hooks see what they saw"


def test_converted_networks_can_be_copied_saved_and_trained(tmp_path):
    built = convert_norms(net(momentum=None), "swb")
    torch.save(built, tmp_path / "net.pt")
    second = torch.load(tmp_path / "net.pt", weights_only=False)
    for network in (built, copy.deepcopy(built), second):
        network(images()).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


# what is refused


class Louder(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


def frozen():
    imported("torchvision")
    from torchvision.ops.misc import FrozenBatchNorm2d

    return FrozenBatchNorm2d(16)


def parametrised():
    return parametrizations.weight_norm(nn.BatchNorm2d(16), dim=None)


def pruned():
    norm = nn.BatchNorm2d(16)
    prune.l1_unstructured(norm, "weight", 0.5)
    return norm


def patched():
    norm = nn.BatchNorm2d(16)
    norm.forward = lambda x: x
    return norm


def with_state_hook():
    norm = nn.BatchNorm2d(16)
    norm.register_state_dict_post_hook(lambda *_: None)
    return norm


@pytest.mark.parametrize(
    ("built", "words"),
    [
        (lambda: Louder(16), r"0 \(Louder\) is a subclass"),
        (frozen, r"0 \(FrozenBatchNorm2d\) is frozen"),
        (lambda: nn.InstanceNorm2d(16), r"0 \(InstanceNorm2d\) is an instance normalisation"),
        (lambda: nn.LazyBatchNorm2d(), r"0 \(LazyBatchNorm2d\) has no known number of channels"),
        (parametrised, "has a parametrisation of weight"),
        (pruned, "has weight_mask, weight_orig beside"),
        (patched, "has its own forward method"),
        (with_state_hook, "has state-dict hooks"),
    ],
)
def test_subclasses_are_refused_if_chosen_and_kept_if_not(built, words):
    other = built()
    model = nn.ModuleList([other, nn.BatchNorm2d(16)])
    with pytest.raises(OptionError, match=words) as raised:
        convert_norms(model, "bw", "[0]", inplace=True)
    assert "\n" not in str(raised.value)
    assert "!0" in str(raised.value), "the remedy"
    convert_norms(model, "bw", "!0", inplace=True)
    assert model[0] is other
    assert isinstance(model[1], BatchWhiten2d)


def test_a_refused_conversion_changes_nothing():
    model = nn.Sequential(nn.BatchNorm2d(16), Louder(16))
    with pytest.raises(OptionError, match="Louder"):
        convert_norms(model, "bw", inplace=True)
    assert type(model[0]) is nn.BatchNorm2d


def test_a_group_that_does_not_divide_names_the_site():
    model = nn.Sequential(nn.BatchNorm2d(32), nn.BatchNorm2d(24))
    with pytest.raises(OptionError, match="16 does not divide the 24 channels of 1") as raised:
        convert_norms(model, "swa", inplace=True)
    assert "!1" in str(raised.value)
    assert type(model[0]) is nn.BatchNorm2d
    assert isinstance(convert_norms(model, "in")[1], InstanceNorm2d), "it has no groups"


def test_unknown_names_are_refused():
    with pytest.raises(UnknownName, match="'swa'"):
        convert_norms(net(), "swaa")
    with pytest.raises(ValueError, match="mix must be one of"):
        convert_norms(net(), "swa", mix="all")
    with pytest.raises(UnknownName, match="solver"):
        convert_norms(net(), "swa", solver="eihg")


def test_swapping_a_subclass_is_refused_by_name():
    model = nn.Sequential(Louder(16))
    assert isinstance(swap_norms(model, bw_at())[0], Louder)
    with pytest.raises(OptionError, match=r"0 \(Louder\) is a subclass"):
        swap_norms(model, bw_at(1))
