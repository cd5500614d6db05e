"""A few of the networks of benchmarks/flops_agreement.py, which compares all of them."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import flops_agreement

SOME = (
    "timm/coat_lite_tiny",  # modules reachable by two paths
    "timm/levit_128s",  # attention biases that are kept
    "torchvision/googlenet",  # heads that only training has
)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SOME)
def test_counts_agree_and_the_network_is_unchanged(name):
    lines = list(flops_agreement.compare(name))
    assert flops_agreement.faults(lines) == []
    verdicts = {verdict["verdict"] for line in lines for verdict in (line["rules"]["fvcore"],)}
    assert verdicts == {"equal"}


def test_the_list_of_models_is_long_and_unique():
    assert len(set(flops_agreement.NAMES)) == len(flops_agreement.NAMES) >= 80


def test_a_difference_and_a_changed_model_are_reported():
    first = {"total": 2, "peer": 1, "fault": True, "changed": [], "verdict": "DIFFERENT"}
    second = {"total": 2, "peer": 2, "fault": False, "changed": ["fc:weight"], "verdict": "equal"}
    line = {
        "model": "m",
        "mode": "eval",
        "rules": {"fvcore": first, "torch": second},
        "changed_by_failure": ["random.torch"],
    }
    assert flops_agreement.faults([line]) == [
        "m eval fvcore: 2, the peer 1",
        "m eval torch changed fc:weight",
        "m eval failing changed random.torch",
    ]


def test_the_fingerprint_detects_every_kind_of_change():
    import torch
    from torch import nn

    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net.cache = {"kept": [torch.ones(2)]}
    changes = {
        "0:_parameters": lambda: net[0].weight.data.add_(1),
        "1:_buffers": lambda: net[1].running_mean.add_(1),
        ":cache": lambda: net.cache["kept"].append(1),
        "1:training": lambda: net[1].eval(),
        "0:_forward_hooks": lambda: net[0].register_forward_hook(print),
        "random.torch": lambda: torch.rand(1),
    }
    for entry, change in changes.items():
        before = flops_agreement.fingerprint(net)
        change()
        assert entry in flops_agreement.changed(before, flops_agreement.fingerprint(net))
