"""Folded norms leave the output as it was, in float64 to 1e-12; what cannot be folded is refused
with its reason.
"""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from torch.nn.utils.fusion import fuse_conv_bn_eval

import swbench
from swbench import fold_whitening, models
from swbench.errors import OptionError
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d

CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def trained(norm):
    """`norm` in eval mode with statistics and parameters that are not those of a new one."""
    torch.manual_seed(1)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_()
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.1, 4)
        else:
            norm.running_mean.normal_()
            roots = torch.randn_like(norm.running_cov)
            norm.running_cov.copy_(roots @ roots.mT / norm.num_pergroup)
    return norm.eval()


def bw(channels, group=4):
    return trained(BatchWhiten2d(channels, group, dtype=torch.float64))


def images(channels=8):
    return torch.randn(2, channels, 9, 7, dtype=torch.float64)


def same(before, after, *given):
    given = given or (images(),)
    with torch.no_grad():
        return torch.allclose(after(*given), before(*given), **CLOSE)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("groups", [1, 2])
def test_batch_whitening_is_folded_exactly(kind, groups, bias):
    conv = kind(8, 16, 3, stride=2, padding=1, groups=groups, bias=bias, dtype=torch.float64)
    net = nn.Sequential(conv, bw(16), nn.ReLU()).eval()
    folded = fold_whitening(net)
    assert same(net, folded)
    assert isinstance(folded[1], nn.Identity)
    assert folded[0].groups == groups
    assert folded[0].bias is not None
    assert isinstance(net[1], BatchWhiten2d), "the model itself stays as it was"
    assert (conv.bias is not None) == bias


def test_folding_is_exact_with_padding():
    conv = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", dtype=torch.float64)
    net = nn.Sequential(conv, bw(8)).eval()
    assert same(net, fold_whitening(net))


@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize(("groups", "merged_groups"), [(8, 2), (4, 2)])
def test_groups_that_split_a_whitening_group_are_refused_or_merged(kind, groups, merged_groups):
    conv = kind(8, 8, 3, groups=groups, dtype=torch.float64)
    net = nn.Sequential(conv, bw(8)).eval()
    with pytest.raises(OptionError, match=rf"the groups of 0 hold {8 // groups} channels.*"):
        fold_whitening(net)
    with pytest.warns(
        UserWarning, match=rf"0 in {merged_groups} groups instead of {groups}: .* times"
    ):
        folded = fold_whitening(net, merge_groups=True)
    assert folded[0].groups == merged_groups
    assert same(net, folded)


def test_the_reported_cost_of_merging_matches_the_weights():
    net = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8, dtype=torch.float64), bw(8, 8)).eval()
    message = (
        r"in 1 group instead of 8: 576 multiply-adds each output pixel instead of 72 \(8 times"
    )
    with pytest.raises(OptionError, match=message):
        fold_whitening(net)
    with pytest.warns(UserWarning, match=message):
        folded = fold_whitening(net, merge_groups=True)
    assert folded[0].weight.numel() == 576


@pytest.mark.parametrize("transposed", [False, True])
def test_batch_normalisation_is_folded_as_torch_folds_it(transposed):
    kind = nn.ConvTranspose2d if transposed else nn.Conv2d
    conv = kind(8, 8, 3, dtype=torch.float64)
    net = nn.Sequential(conv, trained(nn.BatchNorm2d(8).double())).eval()
    folded = fold_whitening(net, batch_norms=True)
    reference_output = fuse_conv_bn_eval(net[0], net[1], transpose=transposed)
    assert torch.allclose(folded[0].weight, reference_output.weight, **CLOSE)
    assert torch.allclose(folded[0].bias, reference_output.bias, **CLOSE)
    assert same(net, folded)


def test_a_fully_folded_network_has_no_norms():
    net = models.build("resnet20", "bw", layers=5, num_classes=10, group=4).double().eval()
    for module in net.modules():
        if isinstance(module, BatchWhiten2d | nn.BatchNorm2d):
            trained(module)
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    whitening = fold_whitening(net)
    partly_folded = [m for m in whitening.modules() if isinstance(m, nn.BatchNorm2d)]
    assert partly_folded
    assert not any(isinstance(m, BatchWhiten2d) for m in whitening.modules())
    both = fold_whitening(net, batch_norms=True)
    assert not any(isinstance(m, BatchWhiten2d | nn.BatchNorm2d) for m in both.modules())
    with torch.no_grad():
        before = net(x)
        for after in (whitening(x), both(x)):
            assert (after - before).abs().max() <= 1e-12 * before.abs().max()


def test_float32_folding_is_that_in_float64_rounded_once():
    """Weights are compared, and not outputs: how float32 products are added is the machine's."""
    net = nn.Sequential(nn.Conv2d(8, 16, 3), BatchWhiten2d(16, 8)).eval()
    trained(net[1])
    folded = fold_whitening(net)[0]
    exact = fold_whitening(net.double())[0]
    for name in ("weight", "bias"):
        value = getattr(folded, name)
        assert value.dtype == torch.float32
        assert torch.equal(value, getattr(exact, name).float())


def test_folding_uses_the_solver_of_the_layer():
    net = nn.Sequential(nn.Conv2d(8, 8, 1), BatchWhiten2d(8, 4, solver="newton5")).double().eval()
    trained(net[1])
    assert same(net, fold_whitening(net))


def test_inplace_folding_changes_the_model_itself():
    net = nn.Sequential(nn.Conv2d(8, 8, 1, dtype=torch.float64), bw(8)).eval()
    x = images()
    before = net(x)
    assert fold_whitening(net, inplace=True) is net
    assert isinstance(net[1], nn.Identity)
    assert torch.allclose(net(x), before, **CLOSE)


class Odd(nn.Module):
    """A convolution and a layer, with `between` in between and `beside` on the way out."""

    def __init__(self, between=lambda x: x, beside=lambda x, y: y, conv=None):
        super().__init__()
        self.conv = conv or nn.Conv2d(8, 8, 3, padding=1, dtype=torch.float64)
        self.norm, self.act = bw(8), nn.ReLU()
        self.between, self.beside = between, beside

    def forward(self, x):
        x = self.conv(x)
        return self.beside(x, self.norm(self.between(x)))


class Same(nn.Conv2d):
    """Does something more than a convolution."""

    def forward(self, x):
        return super().forward(x) * 2


class Reads(Odd):
    def forward(self, x):
        return super().forward(x) + self.conv.weight.sum()


class Twice(Odd):
    def forward(self, x):
        return super().forward(super().forward(x))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Odd(between=torch.relu), "the function relu lies between"),
        (Odd(between=lambda x: x.flip(0)), "the method flip lies between"),
        (Odd(beside=lambda x, y: x + y), "is also used by the function add"),
        (Odd(beside=lambda x, y: (x, y)), "is also used by the output of the module around it"),
        (
            Odd(conv=Same(8, 8, 1, dtype=torch.float64)),
            "conv is a Same, a subclass with its own behaviour",
        ),
        (
            Odd(conv=parametrizations.weight_norm(nn.Conv2d(8, 8, 1, dtype=torch.float64))),
            "conv has parametrised weights",
        ),
        (Odd(conv=nn.Linear(7, 7, dtype=torch.float64)), r"conv \(Linear\) lies between"),
        (Reads(), "the weights of conv are read elsewhere"),
        (Twice(), "called more than once"),
        (nn.Sequential(bw(8)), "comes from outside"),
        (bw(8), "the model itself: it is not inside"),
    ],
    ids=str,
)
def test_layers_that_cannot_be_folded_are_refused_with_the_reason(net, reason):
    net.eval()
    with pytest.raises(OptionError, match=reason):
        fold_whitening(net)
    partly_folded = fold_whitening(net, partial=True)
    assert [type(module) for module in partly_folded.modules()] == [
        type(module) for module in net.modules()
    ]


def test_hooks_would_see_other_values():
    for hooked in ("conv", "norm"):
        net = Odd().eval()
        getattr(net, hooked).register_forward_hook(lambda *given: None)
        with pytest.raises(OptionError, match="has hooks"):
            fold_whitening(net)
    inner = nn.Sequential(nn.Conv2d(8, 8, 1, dtype=torch.float64))
    inner.register_forward_hook(lambda *given: None)
    with pytest.raises(OptionError, match="is in 0, which has hooks"):
        fold_whitening(nn.Sequential(inner, bw(8)).eval())


def test_a_module_in_several_places_is_refused():
    conv = nn.Conv2d(8, 8, 1, dtype=torch.float64)
    net = nn.Sequential(nn.Sequential(conv, bw(8)), nn.Sequential(conv, nn.ReLU())).eval()
    with pytest.raises(OptionError, match=r"0\.0 is in several places"):
        fold_whitening(net)
    block = nn.Sequential(conv, bw(8))
    twice = nn.Sequential(block, nn.ReLU(), block).eval()
    assert same(twice, fold_whitening(twice)), "a block that is shared as a whole is no obstacle"


def test_a_block_is_enough_where_the_network_cannot_be_traced():
    class Decides(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = Odd()

        def forward(self, x):
            return self.block(x) if x.sum() > 0 else self.block(-x)

    net = Decides().eval()
    assert same(net, fold_whitening(net))


def test_training_mode_is_refused():
    net = nn.Sequential(nn.Conv2d(8, 8, 1), BatchWhiten2d(8, 4))
    with pytest.raises(OptionError, match=r"1 is in training mode.*call model\.eval\(\)"):
        fold_whitening(net)


def test_layers_with_image_statistics_cannot_be_folded():
    net = nn.Sequential(nn.Conv2d(8, 8, 1), SwitchWhiten2d(8, 4), InstanceWhiten2d(8, 4)).eval()
    with pytest.raises(OptionError, match="its 2 whitening layers take the statistics of each"):
        fold_whitening(net)
    with pytest.raises(OptionError, match=r"has no batch whitening to fold$"):
        fold_whitening(nn.Sequential(nn.Conv2d(8, 8, 1)).eval())
    mixed = nn.Sequential(nn.Conv2d(8, 8, 1), bw(8).float(), nn.Conv2d(8, 8, 1), net[1]).eval()
    folded = fold_whitening(mixed)
    assert isinstance(folded[3], SwitchWhiten2d)


def test_without_running_statistics_there_is_nothing_constant():
    norm = BatchWhiten2d(8, 4, track_running_stats=False)
    with pytest.raises(OptionError, match="keeps no running statistics"):
        fold_whitening(nn.Sequential(nn.Conv2d(8, 8, 1), norm).eval())


def test_fold_whitening_is_exported_by_the_package():
    assert swbench.fold_whitening is fold_whitening
