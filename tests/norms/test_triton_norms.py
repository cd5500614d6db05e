"""The Triton kernel set, in processes of their own: the interpreter must be asked for before Triton is imported."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swbench.norms import auto, kernels
from swbench.norms.kernels.triton_kernels import set as triton_set

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
CONTRACT = ("test_norm_kernels.py", "-k", "triton")
FEW = ("test_norm_kernels.py", "-k", "triton and not dtype1 and not dtype3 and not shape0 and not shape3 and not shape5")
LAYERS = ("interpreted_triton.py",)


def run(arguments, **environment):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **environment}
    file, *options = arguments
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "default", str(HERE / file), *options]
    done = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_triton
@pytest.mark.parametrize("arguments", [FEW, LAYERS], ids=["contract", "layers"])
def test_in_the_interpreter(arguments):
    assert "passed" in run(arguments, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
def test_the_whole_contract_in_the_interpreter():
    assert "passed" in run(CONTRACT, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("arguments", [CONTRACT, LAYERS], ids=["contract", "layers"])
def test_compiled(arguments):
    assert "passed" in run(arguments, SWBENCH_TEST_DEVICE="cuda:0")


@pytest.fixture
def forgetful():
    """What was found out about devices is forgotten before and after."""
    triton_set._runs_on.cache_clear()
    auto._choose.cache_clear()
    yield
    triton_set._runs_on.cache_clear()
    auto._choose.cache_clear()


def test_a_cpu_without_the_interpreter_is_not_taken(monkeypatch, forgetful):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not kernels.kernels_for(torch.zeros(1), "triton").takes(torch.zeros(1, 4, 1, 1))


def test_naming_the_kernel_set_does_not_import_triton():
    code = "import sys, torch; from swbench.norms import kernels; kernels.kernels_for(torch.zeros(1), 'triton'); sys.exit('triton' in sys.modules and 3)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("group", "dtype", "there", "chosen"),
    [(16, torch.float32, True, "polar-triton"), (16, torch.float32, False, "eigh"), (80, torch.float32, True, "eigh"), (16, torch.float64, True, "eigh")],
)
def test_auto_on_a_gpu_that_was_not_measured(monkeypatch, forgetful, group, dtype, there, chosen):
    monkeypatch.setattr(auto, "measured", tuple)
    monkeypatch.setattr("swbench.solvers.polar_triton.PolarTriton.available", lambda self, device: None if there else "not here")
    assert auto.choose(torch.device("cuda"), group, 72, dtype) == chosen
