"""The calculated collectives of a training step equal those that two ranks really send."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import step_collectives_ranks as ranks
from torch import nn

import swbench
from swbench import models
from swbench.probes.step_collectives import (
    GATHER,
    GRADIENTS,
    REDUCE,
    Collective,
    bucket_bytes,
    step_collectives,
)


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """The collectives of each of two gloo ranks, by the name of the case."""
    store = tmp_path_factory.mktemp("ranks") / "store"
    environ = {
        **os.environ,
        "PYTHONPATH": str(Path(swbench.__file__).parents[1]),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, ranks.__file__, str(rank), str(store)],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [json.loads(output) for output in outputs]


@pytest.mark.slow  # two processes that load torch: in `make ranks`
@pytest.mark.parametrize("name", ranks.CASES)
def test_a_real_step_of_two_ranks_makes_exactly_these_collectives(counted, name):
    account = sorted(
        [collective.kind, collective.nbytes] for collective in step_collectives(ranks.CASES[name])
    )
    assert [sorted(rank[name]) for rank in counted] == [account, account]


def test_a_layer_is_named_with_one_gather_and_one_reduce():
    """ResNet-20's first norm: 16 channels in one group, 16 + 16² numbers, and the pixel count."""
    first, second, *_ = step_collectives(ranks.CASES["swb"])
    assert first == Collective("bn1", GATHER, (16 + 256 + 1) * 4)
    assert second == Collective("bn1", REDUCE, (16 + 256) * 4)


def test_on_cuda_every_batch_normalisation_is_synchronised():
    bn = dataclasses.replace(ranks.CASES["bn"], device="cuda")
    layers = [collective for collective in step_collectives(bn) if collective.source != GRADIENTS]
    assert layers[:2] == [
        Collective("bn1", GATHER, (2 * 16 + 1) * 4),
        Collective("bn1", REDUCE, 2 * 16 * 4),
    ]
    assert len(layers) == 2 * 19


def test_a_network_that_needs_values_is_run_on_the_cpu(monkeypatch):
    class Scaled(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * x.abs().max().item()

    monkeypatch.setattr(models, "build", lambda *_: Scaled(3, 4, 1))
    assert step_collectives(ranks.CASES["bn"]) == (Collective(GRADIENTS, REDUCE, (12 + 4) * 4),)


def test_buckets_are_full_at_one_mebibyte_then_at_twenty_five():
    mib = 1 << 20
    assert bucket_bytes([]) == []
    assert bucket_bytes([mib - 1, 1, 24 * mib, mib, 5]) == [mib, 25 * mib, 5]
    assert bucket_bytes([30 * mib, 30 * mib]) == [30 * mib, 30 * mib]


def test_bytes_and_seconds_by_hand():
    gather, reduce = Collective("", GATHER, 100), Collective("", REDUCE, 100)
    assert (gather.sent_bytes(4), reduce.sent_bytes(4)) == (300, 150)
    assert gather.seconds(4, 1.0, 1000) == pytest.approx((2 + 0.3, 3 + 0.3))
    assert reduce.seconds(4, 1.0, 1000) == pytest.approx((4 + 0.15, 6 + 0.15))
    assert gather.seconds(1024, 1.0, 1e30) == pytest.approx((10, 1023))
    assert reduce.seconds(5, 1.0, 1e30) == pytest.approx((6, 8))
