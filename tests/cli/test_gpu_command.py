"""The command line on a fake GPU, with real workers: measurements, messages and refusals, from
`--device cuda` to the table.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from swbench import store

HERE = Path(__file__).resolve().parent
SUITE = """
schema = 1
title = "Tiny"
kind = "network"
metrics = ["time"]
[network]
model = "resnet20"
classes = 10
image = [[8, 8]]
batch = { cuda = [4] }
group = 4
[protocol]
iterations = 1
replicates = 1
warmup_calls = 1
warmup_s = 0
warmup_cap_s = 0
[[rows]]
norm = "bn"
[[rows]]
norm = "swa"
layers = 5
solver = "polar"
"""


@pytest.fixture
def bench(tmp_path):
    """`bench("--batch", …, fits=2)` -> the process that ran the suite on a GPU that is as the
    keywords say.
    """
    (tmp_path / "tiny.toml").write_text(SUITE)

    def bench(*arguments, device="cuda", **machine):
        command = [
            sys.executable,
            str(HERE.parents[1] / "bench.py"),
            "run",
            "tiny.toml",
            "--device",
            device,
            "--plugin",
            str(HERE / "gpu_machine.py"),
        ]
        environ = {**os.environ, "GPU_MACHINE": json.dumps(machine), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done

    return bench


@pytest.fixture
def latest(tmp_path):
    return lambda: store.load(store.find(tmp_path / "results", "latest"))


def test_batch_too_large_is_out_of_memory_and_the_next_is_measured(bench, latest):
    done = bench("--batch", "4,2,1", "--until-fits", fits=2)
    assert done.returncode == 3, done.stderr
    run = latest()
    swa = [
        (result.group, result.status)
        for result in run.results
        if result.case in {group.cases[2].key for group in run.plan.groups}
    ]
    assert swa == [("cuda batch 4 8x8", "out_of_memory"), ("cuda batch 2 8x8", "ok")]
    (full,) = [result for result in run.results if result.status == "out_of_memory"]
    assert full.detail == (
        "peak 3.00 GiB of 4.00 GiB; CUDA out of memory. Tried to allocate 20.00 GiB."
    )
    assert "GPU batch 4" in done.stdout
    assert "GPU batch 2" in done.stdout
    assert "GPU batch 1" not in done.stdout


def test_shared_gpu_is_refused_or_reported_and_short_dtypes_are_accepted(bench, latest):
    usage = {"name": "Fake", "utilisation": 0.0, "processes": [4]}
    refused = bench(usage=usage)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "1 other process (pid 4) on the Fake" in refused.stderr
    done = bench(
        "--allow-busy", "--dtype", "bf16", "--layout", "channels_last", usage=usage, nvml=False
    )
    assert done.returncode == 0, done.stderr
    assert "measured beside it" in done.stderr
    run = latest()
    assert {case.dtype for case in run.plan.groups[0].cases} == {"bfloat16"}
    assert {result.chosen["tf32"] for result in run.results} == {"off"}
    assert "nvidia-ml-py is not installed" in done.stdout


def test_worker_killed_by_a_signal_fails_only_its_case(bench, latest):
    done = bench(killed="swa")
    assert done.returncode == 3
    assert [result.status for result in latest().results] == ["ok", "ok", "crashed"]
    assert "killed by SIGSEGV" in done.stdout


def test_missing_gpu_is_one_line(bench, tmp_path):
    done = bench(device="cuda:3")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "bench.py: --device cuda:3: there is one GPU, cuda:0 (Fake); use --device cuda\n"
    )
    assert not (tmp_path / "results").exists()
