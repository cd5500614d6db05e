"""fvcore's and torch's counts are theirs, to the last digit, and name what they leave out."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from swbench import count_flops, models
from swbench.norms.layers import SwitchWhiten2d


def build(model, norm="bn", layers=0):
    with torch.device("meta"):
        return models.build(model, norm, layers, "eigh" if layers else "auto")


@pytest.mark.parametrize(("mode", "printed"), [("eval", "4.1114"), ("train", "4.1448")])
def test_fvcore_of_resnet50(mode, printed):
    count = count_flops(build("resnet50"), (3, 224, 224), rule="fvcore", mode=mode)
    assert f"{count.total / 1e9:.4f}" == printed
    assert count.mode == mode
    assert count.uncounted == {
        "aten::relu_": 49,
        "aten::add_": 16,
        "aten::max_pool2d": 1,
        "aten::mean": 1,
    }


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_torch_of_resnet50(mode):
    count = count_flops(build("resnet50"), (3, 224, 224), rule="torch", mode=mode)
    assert f"{count.total / 1e9:.4f}" == "8.1784"
    assert count.uncounted["native_batch_norm"] == 53


def test_the_gap_between_the_rules_is_what_the_docs_say():
    """docs/flops.md: the table of ResNet50-BN, operation by operation."""
    net = build("resnet50")
    count = {
        rule: count_flops(net, (3, 224, 224), rule=rule, mode="eval").by_operation
        for rule in ("paper", "fvcore", "torch")
    }
    elements, convolutions = 11_113_984, 4_087_136_256
    assert count["paper"] == {
        "convolution": convolutions,
        "addmm": 2 * 2_048_000,
        "native_batch_norm": 4 * elements,
        "add_": 5_519_360,
        "max_pool2d_with_indices": 9 * 64 * 56 * 56,
        "mean": 2048 * 49,
        "relu_": 0,
    }
    assert count["fvcore"] == {
        "aten::_convolution": convolutions,
        "aten::linear": 2_048_000,
        "aten::batch_norm": 2 * elements,
    }
    assert count["torch"] == {"convolution": 2 * convolutions, "addmm": 2 * 2_048_000}


class Everything(nn.Module):
    """Operations that reach the dispatcher under another name than the one fvcore's tracer sees."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, groups=1, bias=True)
        self.grouped = nn.Conv2d(8, 8, 3, groups=4)
        self.up = nn.ConvTranspose2d(8, 8, 3, stride=2)
        self.norms = nn.ModuleList(
            [
                nn.BatchNorm2d(8),
                nn.InstanceNorm2d(8, affine=True),
                nn.GroupNorm(2, 8),
                nn.LayerNorm(8),
            ]
        )
        self.fc = nn.Linear(8, 5, bias=False)

    def forward(self, x):
        x = self.up(self.grouped(self.conv(x)))
        for norm in self.norms[:3]:
            x = norm(x)
        x = functional.interpolate(x, scale_factor=2, mode="bilinear")
        x = functional.interpolate(x, scale_factor=2, mode="nearest")
        x = functional.adaptive_avg_pool2d(x, (4, 4)) + functional.adaptive_avg_pool2d(x, 1)
        x = self.norms[3](x.flatten(2).mT)
        return self.fc(x @ x.mT @ x), torch.bmm(x, x.mT)


CASES = {
    "everything": (Everything, (3, 21, 25)),
    "resnet50": (lambda: models.build("resnet50"), (3, 64, 64)),
    "resnet50-seg": (lambda: models.build("resnet50-seg"), (3, 33, 41)),
    "resnet20": (lambda: models.build("resnet20"), (3, 32, 32)),
    "stylizer": (lambda: models.build("stylizer"), (3, 48, 52)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore")
def test_fvcore_agrees_with_flop_count_analysis(case, training):
    from fvcore.nn import FlopCountAnalysis

    make, size = CASES[case]
    net = make().train(training)
    analysis = (
        FlopCountAnalysis(net, torch.rand(1, *size))
        .unsupported_ops_warnings(False)
        .uncalled_modules_warnings(False)
    )
    assert count_flops(net, size, rule="fvcore").total == analysis.total()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", ["everything", "resnet20", "stylizer"])
def test_torch_agrees_with_flop_counter_mode(case, training):
    make, size = CASES[case]
    net = make().train(training)
    with FlopCounterMode(display=False) as counter:
        net(torch.rand(1, *size))
    assert count_flops(net, size, rule="torch").total == counter.get_total_flops()


@pytest.mark.parametrize("norm", ["bw", "iw", "swa", "swb"])
def test_torch_sees_inside_whitening_layers(norm):
    # in float64 the passes are torch operations, which the counter sees
    net = models.build("resnet20", norm, 5, "eigh").double()
    with FlopCounterMode(display=False) as counter:
        net(torch.rand(1, 3, 32, 32, dtype=torch.double))
    assert count_flops(net, (3, 32, 32), rule="torch").total == pytest.approx(
        counter.get_total_flops(), rel=0.02
    )
    assert count_flops(net, (3, 32, 32), rule="torch").uncounted["_linalg_eigh"] == 5


def test_a_second_count_equals_the_first():
    """Whatever layers keep between calls."""
    net = SwitchWhiten2d(14, 7, 2, solver="eigh")  # a group no other test has
    first, second = (count_flops(net, (14, 4, 4), rule="fvcore", mode="eval") for _ in range(2))
    assert first == second


class Algebra(nn.Module):
    def forward(self, x):
        y = torch.baddbmm(x, x, x)
        y = torch.linalg.matrix_power(y, 3) + torch.linalg.eigh(x)[1] + torch.linalg.svd(x)[0]
        return y


def test_operations_that_fvcore_misses_are_named():
    count = count_flops(Algebra(), torch.rand(4, 16, 16), rule="fvcore")
    assert count.total == 0
    for name in (
        "aten::baddbmm",
        "aten::linalg_matrix_power",
        "aten::linalg_eigh",
        "aten::linalg_svd",
    ):
        assert count.uncounted[name] == 1


def test_operations_that_torch_misses_are_named():
    count = count_flops(Algebra(), torch.rand(4, 16, 16), rule="torch")
    assert count.total == 2 * 3 * 4 * 16**3  # baddbmm, and the two products of the power
    assert {"_linalg_eigh", "_linalg_svd", "add"} <= count.uncounted.keys()
