"""The Triton kernel set, run in the interpreter by a process of its own: it must be asked for before Triton is imported."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swbench.norms import kernels

HERE = Path(__file__).parent


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
@pytest.mark.parametrize("arguments", [("test_norm_kernels.py", "-k", "triton")], ids=["contract"])
def test_in_the_interpreter(arguments):
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    file, *options = arguments
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default", str(HERE / file), *options]
    done = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_cpu_without_the_interpreter_is_not_taken(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    from swbench.norms.kernels.triton_kernels import set as triton_set

    triton_set._runs_on.cache_clear()
    assert not kernels.kernels_for(torch.zeros(1), "triton").takes(torch.zeros(1, 4, 1, 1))
    triton_set._runs_on.cache_clear()


def test_naming_the_kernel_set_does_not_import_triton():
    code = "import sys, torch; from swbench.norms import kernels; kernels.kernels_for(torch.zeros(1), 'triton'); sys.exit('triton' in sys.modules and 3)"
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}, check=False)
    assert done.returncode == 0
