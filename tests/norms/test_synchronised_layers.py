"""Layers whose batch is spread over ranks equal the single process on the whole batch: one start of
four gloo processes for all checks.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import distributed_checks
import pytest
import torch
from torch import nn

import swbench
from swbench.norms import convert_sync_whitening
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d
from swbench.norms.statistics import merge_parts

PLACES = [
    (4, "gloo", "cpu"),
    pytest.param((1, "nccl", "cuda"), marks=pytest.mark.gpu),
    pytest.param((2, "gloo", "cuda"), marks=pytest.mark.gpu),
]
"""Ranks, backend and device. NCCL lets no two ranks share a device, gloo does."""


@pytest.fixture(
    scope="module", params=PLACES, ids=lambda place: f"{place[0]} {place[1]} {place[2]}"
)
def outcomes(request, tmp_path_factory):
    """By rank, by check: what went wrong, empty where nothing did."""
    count, backend, device = request.param
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    folder = tmp_path_factory.mktemp("ranks")
    paths = [str(Path(swbench.__file__).parents[1]), str(Path(__file__).parent)]
    environ = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
    }
    command = [
        sys.executable,
        distributed_checks.__file__,
        str(folder),
        str(count),
        backend,
        device,
    ]
    ranks = [
        subprocess.Popen(
            [*command, str(rank)],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        output = [rank.communicate(timeout=150)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    files = [folder / f"{rank}.json" for rank in range(count)]
    return [
        json.loads(file.read_text()) if file.exists() else {"": text}
        for file, text in zip(files, output, strict=True)
    ]


@pytest.mark.parametrize("name", distributed_checks.CHECKS)
def test_ranks_agree_with_one_process(outcomes, name):
    size = distributed_checks.CHECKS[name][0]
    if size > len(outcomes):
        pytest.skip(f"needs {size} ranks")
    for rank, errors in enumerate(outcomes[:size]):
        assert errors.get(name, errors.get("", "not reached")) == "", f"rank {rank}"


def test_the_converter_reaches_every_layer_and_returns_the_model():
    model = nn.Sequential(
        SwitchWhiten2d(16),
        nn.Sequential(BatchWhiten2d(16), InstanceWhiten2d(16)),
        nn.BatchNorm2d(16),
    )
    assert convert_sync_whitening(model) is model
    assert [model[0].process_group, model[1][0].process_group, model[1][1].process_group] == [
        "world"
    ] * 3
    layer = BatchWhiten2d(16)
    assert convert_sync_whitening(layer) is layer


def test_a_converted_network_runs_without_torch_distributed():
    x = torch.randn(2, 16, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(
        convert_sync_whitening(BatchWhiten2d(16).double())(x), BatchWhiten2d(16).double()(x)
    )


def test_sw_types_that_crash_in_the_public_code_are_refused():
    with pytest.raises(ValueError, match="sw_type must be one of 2, 3, 5, not 4"):
        SwitchWhiten2d(16, sw_type=4, process_group="world")


def test_no_images_are_refused_without_other_ranks():
    with pytest.raises(ValueError, match="no pixels"):
        BatchWhiten2d(16)(torch.empty(0, 16, 3, 3))
    with pytest.raises(ValueError, match="no pixels"):
        BatchWhiten2d(16, process_group="world")(torch.empty(2, 16, 0, 3))


def test_parts_of_any_size_merge_to_the_full_batch():
    x = torch.randn(1, 4, 90, dtype=torch.float64) + 1e6
    parts = [x[..., :5], x[..., 5:85], x[..., 85:], x[..., :0]]
    count = torch.tensor([5.0, 80, 5, 0], dtype=torch.float64)
    means = torch.stack(
        [p.mean(-1) if p.shape[-1] else torch.zeros(1, 4, dtype=torch.float64) for p in parts]
    )
    covs = torch.stack(
        [
            (a := p - m.unsqueeze(-1)) @ a.mT / max(1, p.shape[-1])
            for p, m in zip(parts, means, strict=True)
        ]
    )
    mean, cov = merge_parts(count, means, covs)
    centred = x - x.mean(-1, keepdim=True)
    torch.testing.assert_close(mean, x.mean(-1), rtol=1e-14, atol=0)
    torch.testing.assert_close(cov, centred @ centred.mT / 90, rtol=1e-9, atol=1e-9)
