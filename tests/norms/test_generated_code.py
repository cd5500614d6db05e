"""The code that a compiler generates around a layer: no full tensor is cloned for the operator's
sake, running statistics move in place, and there are no more graphs than for BN.
"""

import re
import shutil

import pytest
import torch
from torch import nn

from swbench.native import library
from swbench.norms.layers import SwitchWhiten2d

pytestmark = [
    pytest.mark.usefixtures("fresh_compiler"),
    pytest.mark.skipif(library.missing() is not None, reason=str(library.missing())),
]
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None,
    reason="inductor needs a C++ compiler",
)
IMAGES, CHANNELS, SIDE = 3, 16, 10


def network(norm):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False),
        norm(CHANNELS),
        nn.ReLU(inplace=True),
        nn.Conv2d(CHANNELS, 4, 1, bias=False),
    )


def full_tensors_made(code):
    """Of tensors as large as the layer's, those that generated loops write to. Convolutions and
    the operators make their own.
    """
    return len(re.findall(rf"empty_strided_cpu\(\({IMAGES}, {CHANNELS}, {SIDE}, {SIDE}\)", code))


@needs_compiler
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch itself
def test_no_full_tensor_is_made_for_the_operator():
    from torch._inductor.utils import run_fw_bw_and_get_code

    model = network(SwitchWhiten2d)
    x = torch.randn(IMAGES, 3, SIDE, SIDE)
    run = torch.compile(model, fullgraph=True)
    _, (forward, backward) = run_fw_bw_and_get_code(lambda: run(x))
    assert "swbench.whiten_forward_training.default" in forward
    assert "swbench.whiten_backward.default" in backward
    for code in (forward, backward):
        assert full_tensors_made(code) == 0  # the ReLU and its gradient are taken in place
        assert "aten.clone" not in code
        assert "auto_functionalized" not in code
    call = re.search(r"whiten_forward_training\.default\((.*)\)", forward).group(1)
    assert len(re.findall(r"primals_\d+", call)) == 6, call  # statistics are the layer's own


def graphs(norm):
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    run = torch.compile(network(norm), backend="aot_eager")
    for images in (8, 16, 32, 1):
        run(torch.randn(images, 3, SIDE, SIDE)).sum().backward()
    assert not torch._dynamo.utils.counters["graph_break"]
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def test_no_more_graphs_than_bn_over_batches():
    assert graphs(SwitchWhiten2d) <= graphs(nn.BatchNorm2d)
