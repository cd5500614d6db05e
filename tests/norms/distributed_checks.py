"""What every rank checks, run by `test_synchronised_layers` in all ranks at once: `python
distributed_checks.py FOLDER RANKS BACKEND DEVICE RANK`.
"""

import datetime
import itertools
import json
import os
import sys
import traceback
from pathlib import Path

import torch
from distributed_group import (
    CLOSE,
    GatherBatch,
    Group,
    SharedParameter,
    SplitBatch,
    build,
    data,
    run,
)
from torch import distributed as dist
from torch import nn
from torch.func import functional_call
from torch.nn.parallel import DistributedDataParallel
from whitening_layers import WHITENING

from swbench.case import Case
from swbench.norms.communication import traffic
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d
from swbench.norms.sync_convert import convert_sync_whitening
from swbench.probes.communication import profiled_collectives
from swbench.probes.data_parallel import DataParallel

SPLITS = {
    "one": (8,),
    "two even": (4, 4),
    "two 6 2": (6, 2),
    "two 8 0": (8, 0),
    "two 0 8": (0, 8),
    "four even": (2, 2, 2, 2),
    "four 5 0 1 2": (5, 0, 1, 2),
    "four 0 7 1 0": (0, 7, 1, 0),
}
KINDS = [name for name in WHITENING if name != "iw"]


def equal_to_one_process(group, sizes, kind, layout=torch.contiguous_format, **given):
    """Outputs, running statistics and all gradients, over two updates."""
    single, layer = build(kind, **given), build(kind, process_group=group.handle, **given)
    for step in range(2):
        x, dy = data(sum(sizes), layout=layout)
        x, dy = x + step, dy * (1 + step)
        expected_y, expected_dx, expected_values = run(single, x, dy)
        y, dx, grads = run(layer, group.own(x, sizes), group.own(dy, sizes))
        torch.testing.assert_close(y, group.own(expected_y, sizes), **CLOSE)
        torch.testing.assert_close(dx, group.own(expected_dx, sizes), **CLOSE)
        for name, gradient in grads.items():
            torch.testing.assert_close(group.summed(gradient), expected_values[name], **CLOSE)
        for name, buffer in layer.named_buffers():
            torch.testing.assert_close(buffer, dict(single.named_buffers())[name], **CLOSE)
            everywhere = [torch.empty_like(buffer) for _ in range(group.size)]
            dist.all_gather(everywhere, buffer, group=group.handle)
            assert all(torch.equal(buffer, other) for other in everywhere), (
                f"{name} differs between ranks"
            )
        single.zero_grad(), layer.zero_grad()
    return layer


def check_splits(group, sizes):
    for kind in KINDS:
        equal_to_one_process(group, sizes, kind)


def check_layout_and_no_affine(group):
    equal_to_one_process(group, (6, 2), "swb", layout=torch.channels_last)
    equal_to_one_process(group, (1, 1), "swa", affine=False)
    equal_to_one_process(group, (0, 1), "bw", affine=False)


def check_nothing_anywhere(group):
    layer = build("swb", process_group=group.handle)
    before = [b.clone() for b in layer.buffers()]
    y, _, grads = run(
        layer,
        torch.empty(0, 8, 3, 5, dtype=torch.float64),
        torch.empty(0, 8, 3, 5, dtype=torch.float64),
    )
    assert y.shape == (0, 8, 3, 5)
    assert all(torch.equal(a, b) for a, b in zip(before, layer.buffers(), strict=True))
    assert all(not g.any() for g in grads.values())


def check_images_of_other_sizes(group):
    """The count is of pixels: 2 images of 3×5 on one rank and 1 of 6×5 on the other are 60 pixels,
    half of them each.
    """
    layer, single = build("bw", process_group=group.handle), build("bw")
    x, _ = data(2)
    tall = x.transpose(0, 1).reshape(1, 8, 6, 5)
    mine = x if group.rank == 0 else tall * 2
    layer(mine)
    single(torch.cat([x, tall.reshape(8, 2, 3, 5).transpose(0, 1) * 2]))
    torch.testing.assert_close(layer.running_cov, single.running_cov, **CLOSE)
    torch.testing.assert_close(layer.running_mean, single.running_mean, **CLOSE)


def check_means_far_from_zero(group):
    """float32, means 10⁴ standard deviations away and 10 apart between ranks: each rank shifts by a
    pixel of its own.
    """
    exact = build("bw", affine=False)
    layer = build("bw", affine=False, process_group=group.handle).float()
    x, _ = data(8)
    x = (x + 1e4 + 10 * torch.arange(8).view(8, 1, 1, 1) // 6).float()
    y = layer(group.own(x, (6, 2)))
    expected_values = exact(x.double())
    torch.testing.assert_close(y.double(), group.own(expected_values, (6, 2)), rtol=0, atol=5e-3)


def check_whatever_is_chosen(group):
    """float32 with the kernels and the solver that `auto` chooses here: a set that does a layer in
    one piece must not leave others out.
    """
    for kind, sizes in itertools.product(KINDS, ((6, 2), (1, 1), (0, 3))):
        exact, layer = build(kind), build(kind, process_group=group.handle, solver="auto").float()
        x, dy = data(sum(sizes), size=(6, 7))
        expected_y, expected_dx, _ = run(exact, x, dy)
        y, dx, _ = run(layer, group.own(x, sizes).float(), group.own(dy, sizes).float())
        torch.testing.assert_close(y.double(), group.own(expected_y, sizes), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(dx.double(), group.own(expected_dx, sizes), rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(
            layer.running_cov.double(), exact.running_cov, rtol=1e-4, atol=1e-4
        )


def check_eval_needs_no_other_rank(group):
    """In eval mode nothing is sent: one rank alone gets through, and no gradient flows through
    batch statistics.
    """
    for kind in KINDS:
        alone, layer = build(kind).eval(), build(kind, process_group=group.handle).eval()
        if group.rank == 0:
            x, dy = data(3)
            expected_values, actual = run(alone, x, dy), run(layer, x, dy)
            for a, b in zip(
                (*actual[:2], *actual[2].values()),
                (*expected_values[:2], *expected_values[2].values()),
                strict=True,
            ):
                assert torch.equal(a, b)
            names = [name for name, _ in layer.named_parameters()]
            small, _ = data(1, size=(1, 2))
            given = (
                small.requires_grad_(),
                *(p.detach().requires_grad_() for p in layer.parameters()),
            )
            assert torch.autograd.gradcheck(
                lambda x, *ps, layer=layer, names=names: functional_call(
                    layer, dict(zip(names, ps, strict=True)), (x,)
                ),
                given,
            )
            assert layer(torch.empty(0, 8, 3, 5, dtype=torch.float64)).shape[0] == 0


def check_gradcheck(group, sizes):
    for kind in KINDS:
        layer = build(kind, 4, 2, process_group=group.handle)
        names = [name for name, _ in layer.named_parameters()]

        def call(x, *parameters, layer=layer, names=names):
            shared = {
                name: SharedParameter.apply(p, group)
                for name, p in zip(names, parameters, strict=True)
            }
            return GatherBatch.apply(
                functional_call(layer, shared, (SplitBatch.apply(x, group, sizes),)), group, sizes
            )

        x, _ = data(sum(sizes), 4, size=(1, 3))
        assert torch.autograd.gradcheck(
            call, (x.requires_grad_(), *(p.detach().requires_grad_() for p in layer.parameters()))
        )


def network():
    torch.manual_seed(3)
    layers = [
        nn.Conv2d(3, 8, 3, bias=False),
        SwitchWhiten2d(8, 4, sw_type=5, solver="eigh"),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        BatchWhiten2d(8, 4, solver="eigh"),
    ]
    return nn.Sequential(*layers, InstanceWhiten2d(8, 4, solver="eigh")).double()


def check_distributed_data_parallel(group, sizes):
    """Gradients are the mean over ranks of what one process gets from the summed loss."""
    single = network()
    parallel = DistributedDataParallel(
        convert_sync_whitening(network(), group.handle), process_group=group.handle
    )
    x, dy = (
        torch.randn(sum(sizes), 3, 8, 8, dtype=torch.float64),
        torch.randn(sum(sizes), 8, 4, 4, dtype=torch.float64),
    )
    for _ in range(2):
        single.zero_grad(), parallel.zero_grad()
        single(x).backward(dy)
        parallel(group.own(x, sizes)).backward(group.own(dy, sizes))
        for item, other in zip(parallel.module.parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(item.grad * group.size, other.grad, **CLOSE)
    for item, other in zip(parallel.module.buffers(), single.buffers(), strict=True):
        torch.testing.assert_close(item, other, **CLOSE)


def check_communication(group):
    """What the layers send is what the formula says: one gather forward, one sum backward, each."""
    model = convert_sync_whitening(network(), group.handle)
    expected_values = traffic(model, torch.float64)
    assert [(item.gather_bytes, item.reduce_bytes) for item in expected_values] == [
        ((8 * 5 + 1) * 8, 8 * 5 * 8)
    ] * 2
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    metrics = {
        item.metric: item.samples[0]
        for item in profiled_collectives(lambda: model(x).sum().backward())
    }
    assert metrics["communication_calls"] == 4
    assert metrics["communication_bytes"] == sum(
        item.gather_bytes + item.reduce_bytes for item in expected_values
    )
    assert metrics["communication_s"] > 0
    evaluated = {
        item.metric: item.samples[0] for item in profiled_collectives(lambda: model.eval()(x))
    }
    assert evaluated["communication_calls"] == 0


def check_the_default_group(world):
    """`world` is looked up at each call; a converted network without torch.distributed is tested by
    the single process.
    """
    model = convert_sync_whitening(nn.Sequential(build("swa")))
    assert model[0].process_group == "world"
    equal = build("swa")
    x, dy = data(8)
    expected_values = run(equal, x, dy)
    actual = run(model, world.own(x, (2, 2, 2, 2)), world.own(dy, (2, 2, 2, 2)))
    torch.testing.assert_close(actual[1], world.own(expected_values[1], (2, 2, 2, 2)), **CLOSE)


def check_the_slowest(group):
    """All ranks come to know the same times."""
    slowest = DataParallel(Case(model="resnet20", batch=4, world=4)).slowest(
        {"up": 1.0 + group.rank, "down": -1.0 - group.rank}
    )
    assert slowest == {"up": 4.0, "down": -1.0}


CHECKS = {
    f"splits {name}": (len(sizes), lambda group, sizes=sizes: check_splits(group, sizes))
    for name, sizes in SPLITS.items()
}
CHECKS |= {
    "layout and no affine": (2, check_layout_and_no_affine),
    "nothing anywhere": (2, check_nothing_anywhere),
    "images of other sizes": (2, check_images_of_other_sizes),
    "means far from zero": (2, check_means_far_from_zero),
    "whatever is chosen": (2, check_whatever_is_chosen),
    "eval needs no other rank": (2, check_eval_needs_no_other_rank),
    "gradcheck 2 1": (2, lambda group: check_gradcheck(group, (2, 1))),
    "gradcheck 0 2": (2, lambda group: check_gradcheck(group, (0, 2))),
    "ddp 6 2": (2, lambda group: check_distributed_data_parallel(group, (6, 2))),
    "ddp 8 0": (2, lambda group: check_distributed_data_parallel(group, (8, 0))),
    "ddp four": (4, lambda group: check_distributed_data_parallel(group, (3, 2, 2, 1))),
    "communication": (2, check_communication),
    "the slowest": (4, check_the_slowest),
    "default group": (4, check_the_default_group),
}


def main(folder: str, world: int, backend: str, device: str, rank: int) -> None:
    """Run every check this rank has a part in; write what went wrong, by check. The first failure
    ends all: the others wait in vain.
    """
    torch.set_num_threads(1)
    torch.set_default_device(device)
    dist.init_process_group(
        backend,
        init_method=f"file://{folder}/meet",
        world_size=world,
        rank=rank,
        timeout=datetime.timedelta(seconds=30),
    )
    groups = {size: Group(size) for size in (1, 2, 4) if size <= world}
    outcomes = {}
    for name, (size, check) in CHECKS.items():
        if rank < size <= world:
            try:
                check(groups[size])
                outcomes[name] = ""
            except Exception:  # noqa: BLE001  the test that reads it fails
                outcomes[name] = traceback.format_exc()
            Path(folder, f"{rank}.json").write_text(json.dumps(outcomes))
            if outcomes[name]:
                os._exit(1)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:5], int(sys.argv[5]))
