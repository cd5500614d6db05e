"""What `test_training_wrappers` runs in two ranks at once: one network trained under
DistributedDataParallel and under FSDP2. `python sharded_training.py FOLDER RANK`.
"""

import copy
import sys
import traceback
from pathlib import Path

import torch
from torch import distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d
from swbench.norms.sync_convert import convert_sync_whitening

STEPS = 5
FULL = StateDictOptions(full_state_dict=True)


class Network(nn.Module):
    """Convolutions with layers of every kind; the middle recomputed in the backward pass if so
    wanted.
    """

    def __init__(self, recompute=False):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), SwitchWhiten2d(8, 4, sw_type=5), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 3), BatchWhiten2d(8, 4), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(8, 4, 1), InstanceWhiten2d(4, 4), nn.Conv2d(4, 2, 1))
        self.recompute = recompute

    def forward(self, x):
        x = self.first(x)
        if self.recompute:
            x = checkpoint(self.middle, x, use_reentrant=False)
        else:
            x = self.middle(x)
        return self.last(x).mean((2, 3))


def start():
    torch.manual_seed(0)
    return convert_sync_whitening(Network())


def train(model, rank):
    """The losses of this rank."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(STEPS):
        torch.manual_seed(10 * step + rank)
        x, label = torch.randn(4, 3, 10, 10) + rank, torch.randint(2, (4,))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), label)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def agree(actual, expected):
    torch.testing.assert_close(
        torch.tensor(actual[0]), torch.tensor(expected[0]), rtol=1e-6, atol=1e-6
    )
    assert actual[1].keys() == expected[1].keys()
    for name, value in actual[1].items():
        scale = value.abs().max()
        torch.testing.assert_close(
            expected[1][name] / scale,
            value / scale,
            rtol=1e-6,
            atol=1e-6,
            msg=lambda m, n=name: n + m,
        )


def sharded(state, mesh, **options):
    """Made without memory, sharded, then begun as a new network, then with `state`."""
    with torch.device("meta"):
        model = start()
    for part in (model.first, model.middle, model.last, model):
        fully_shard(part, mesh=mesh, **options)
    model.to_empty(device="cpu")
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    new = SwitchWhiten2d(8, 4, sw_type=5)
    for name, value in get_model_state_dict(model.first[1], options=FULL).items():
        assert torch.equal(value, new.state_dict()[name]), name
    set_model_state_dict(model, copy.deepcopy(state), options=FULL)
    return model


def check(rank):
    mesh, state = init_device_mesh("cpu", (2,)), start().state_dict()
    parallel = DistributedDataParallel(start())
    expected = train(parallel, rank), parallel.module.state_dict()
    assert not torch.equal(expected[1]["middle.1.running_cov"], state["middle.1.running_cov"])

    static = DistributedDataParallel(start(), static_graph=True)
    agree(expected, (train(static, rank), static.module.state_dict()))

    second = DistributedDataParallel(start(), static_graph=True)
    second.module.recompute = True
    losses = train(second, rank)
    torch.testing.assert_close(
        torch.tensor(losses), torch.tensor(expected[0]), rtol=1e-5, atol=1e-6
    )

    model = sharded(state, mesh)
    agree(expected, (train(model, rank), get_model_state_dict(model, options=FULL)))

    mixed = sharded(state, mesh, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
    losses = train(mixed, rank)
    torch.testing.assert_close(torch.tensor(losses), torch.tensor(expected[0]), rtol=0.1, atol=0.1)
    assert mixed.middle[1].running_cov.dtype is torch.float32


def main(folder, rank):
    """Leave what went wrong in a file of this rank: nothing, if it is empty."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", world_size=2, rank=rank)
    try:
        check(rank)
        error = ""
    except Exception:  # noqa: BLE001  the test that reads it fails
        error = traceback.format_exc()
    Path(folder, f"{rank}.txt").write_text(error)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
