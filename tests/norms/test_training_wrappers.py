"""What people put around a network in training: recomputed activations, ranks and shards, a
compiler.
"""

import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import distributed as dist
from torch import nn
from torch.utils.checkpoint import checkpoint

from swbench.norms.layers import BatchWhiten2d, SwitchWhiten2d

RANKS = Path(__file__).parent / "sharded_training.py"


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.BatchNorm2d(16),
        lambda: BatchWhiten2d(16),
        lambda: SwitchWhiten2d(16, kernels="torch"),
        lambda: SwitchWhiten2d(16, solver="eigh"),
    ],
)
def test_activation_checkpointing_updates_statistics_as_in_batch_norm(make, reentrant):
    """Twice, for the layer is called twice; gradients are the same."""
    layer, x = make(), torch.randn(2, 16, 5, 5, requires_grad=True)
    twice, recomputed = copy.deepcopy(layer), copy.deepcopy(layer)
    (expected,) = torch.autograd.grad(layer(x).sin().sum(), x)
    twice(x), twice(x)
    checkpoint(recomputed, x, use_reentrant=reentrant).sin().sum().backward()
    torch.testing.assert_close(x.grad, expected)
    for actual, expected in zip(recomputed.buffers(), twice.buffers(), strict=True):
        assert torch.equal(actual, expected)


def test_two_ranks_train_the_same_under_ddp_and_fsdp2(tmp_path):
    if not (dist.is_available() and dist.is_gloo_available()):
        pytest.skip("torch was built without gloo")
    ranks = [
        subprocess.Popen([sys.executable, str(RANKS), str(tmp_path), str(rank)])
        for rank in range(2)
    ]
    assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    for rank in range(2):
        assert not (tmp_path / f"{rank}.txt").read_text()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("options", [{"track_running_stats": False}, {"momentum": None}])
def test_settings_of_the_statistics_hold_in_a_compiled_layer(options):
    layer = nn.Sequential(SwitchWhiten2d(8, 4, **options))
    reference, x = copy.deepcopy(layer), torch.randn(2, 8, 4, 4)
    compiled = torch.compile(layer, backend="aot_eager")
    for mode in (True, True, False):
        layer.train(mode), reference.train(mode)
        torch.testing.assert_close(compiled(x), reference(x), rtol=1e-4, atol=1e-4)
    for actual, expected in zip(layer.buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(actual, expected)
