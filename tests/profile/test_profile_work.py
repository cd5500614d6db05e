import pytest
import torch
from torch import nn

from swbench import norms
from swbench.profile.annotations import profiled_modules
from swbench.profile.types import BACKWARD, FORWARD, Layer, Part, Roof, Work
from swbench.profile.work import work_by_layer
from swbench.solvers.eigh import Eigh


@pytest.fixture(scope="module")
def counted():
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1, bias=False),
        norms.build("swa", 32, solver="eigh"),
        nn.ReLU(inplace=True),
        nn.Conv2d(32, 16, 1, bias=False),
        nn.BatchNorm2d(16),
    )
    x = torch.randn(2, 3, 8, 8)
    model(x)
    return work_by_layer(model, (x,), profiled_modules(model))


E, OUT, PIXELS = 2 * 32 * 64, 2 * 16 * 64, 2 * 64
"""Elements of the first and the second map, and pixels of the batch."""


@pytest.mark.parametrize(
    ("path", "flops", "floats"),
    [
        # no gradient of the input
        (
            "0",
            (2 * PIXELS * 32 * 27, 2 * PIXELS * 32 * 27),
            (3 * PIXELS + 32 * 27 + E, 3 * PIXELS + 32 * 27 + E),
        ),
        ("3", (2 * PIXELS * 16 * 32, 4 * PIXELS * 16 * 32), (E + 512 + OUT, 2 * (E + 512 + OUT))),
        ("4", (4 * OUT, 8 * OUT), (3 * OUT, 5 * OUT)),
        ("2", (0, 0), (2 * E, 3 * E)),
    ],
)
def test_work_follows_from_the_shapes(counted, path, flops, floats):
    work = counted[0][path]
    assert tuple(phase.flops for phase in work) == flops
    assert tuple(phase.traffic_bytes for phase in work) == tuple(4 * n for n in floats)


def test_whitening_is_three_passes_forward_and_five_backward(counted):
    forward, backward = counted[0]["1"]
    matrices, group = 4, 16
    assert forward.traffic_bytes == 4 * (3 * E + 4 * matrices * group**2)
    assert backward.traffic_bytes == 4 * (5 * E + 6 * matrices * group**2)
    assert forward.flops == (4 * group + 4) * E + matrices * (Eigh().flops(group) + 3 * group**2)
    assert backward.flops == (6 * group + 4) * E + matrices * (8 * group**3 + 3 * group**2)


def test_forward_flops_by_the_papers_rule_are_given_by_layer(counted):
    assert counted[1]["3"] == PIXELS * 16 * 32
    assert counted[1]["1"] == 35 * E + 4 * 16**3


def test_a_network_the_paper_has_no_rule_for_has_no_paper_flops():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sigmoid())
    work, paper = work_by_layer(model, (torch.randn(1, 3, 8, 8),), profiled_modules(model))
    assert paper == {}
    assert work["0"][0].flops > 0


def test_share_of_roof_is_attainable_over_taken_time():
    work = Work(phase=FORWARD, flops=8.0, traffic_bytes=2.0)
    part = Part(phase=FORWARD, operator="conv", seconds=4.0, host_s=4.0, launches=0)
    layer = Layer(path="a", kind="conv", parts=(part,), work=(work,))
    assert layer.share_of_roof(FORWARD, Roof(flops_per_s=4.0, bytes_per_s=100.0)) == pytest.approx(
        (8 / 4) / 4
    )
    assert layer.share_of_roof(FORWARD, Roof(flops_per_s=1e9, bytes_per_s=1.0)) == pytest.approx(
        (8 / 4) / (4 * 1)
    )
    assert layer.share_of_roof(BACKWARD, Roof(flops_per_s=1.0, bytes_per_s=1.0)) is None
