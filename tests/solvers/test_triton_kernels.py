"""The Triton kernels, run in the interpreter by a process of its own: it must be asked for before
Triton is imported.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from swbench import solvers
from swbench.errors import OptionError
from swbench.solvers import triton_kernels

HERE = Path(__file__).parent


needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)


def run_kernels(limit_s, **environment):
    """`interpreted_kernels.py` in a process of its own; returns what it was started with."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **environment,
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "default"]
    command += ["-o", f"timeout={limit_s}", str(HERE / "interpreted_kernels.py")]
    done = subprocess.run(
        command,
        env=environment,
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_triton
def test_solver_kernels_in_the_interpreter():
    run_kernels(200, TRITON_INTERPRET="1")


COLD_S = 540
"""A cold cache of Triton's has every kernel compiled and every launcher built first."""


@needs_triton
@pytest.mark.gpu
@pytest.mark.timeout(COLD_S + 20)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_solver_kernels_compiled():
    run_kernels(COLD_S, SWBENCH_TEST_DEVICE="cuda:0")


@pytest.mark.parametrize("name", ["polar-triton", "jacobi-triton"])
def test_unavailable_on_a_cpu_without_the_interpreter(name, monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    reason = solvers.get(name).available("cpu")
    assert "CUDA" in reason


@pytest.mark.parametrize("name", ["polar-triton", "jacobi-triton"])
def test_unavailable_without_triton(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert "Triton is not installed" in solvers.get(name).available("cpu")


@pytest.mark.skipif(sys.platform != "linux", reason="Triton brings its own compiler there")
@pytest.mark.parametrize("has_compiler", [True, False])
def test_unavailable_where_no_launcher_can_be_built(has_compiler, monkeypatch, tmp_path):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if has_compiler else None)
    monkeypatch.setattr(sysconfig, "get_path", lambda *_: str(tmp_path))
    assert ("headers of Python" if has_compiler else "C compiler") in triton_kernels.missing("cuda")
    monkeypatch.setenv("CC", "cc")
    (tmp_path / "Python.h").touch()
    assert triton_kernels.missing("cuda") is None


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (2, (16, 8)),
        (4, (16, 4)),
        (5, (16, 3)),
        (8, (16, 2)),
        (16, (16, 1)),
        (17, (32, 1)),
        (33, (64, 1)),
        (64, (64, 1)),
    ],
)
def test_small_matrices_share_a_tile(group, expected):
    assert triton_kernels.tile_of(group) == expected


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("polar-triton:precision=tf32", "precision must be one of"),
        ("polar-triton:backward=autograd", "cannot see into a kernel"),
        ("jacobi-triton:precision=fp16", "precision"),
    ],
)
def test_invalid_option_names_the_allowed_values(spec, message):
    with pytest.raises(OptionError, match=message):
        solvers.get(spec)


def test_listing_a_kernel_solver_does_not_import_triton():
    code = (
        "import sys; from swbench import solvers; solvers.get('polar-triton'), "
        "solvers.get('jacobi-triton'); sys.exit('triton' in sys.modules and 3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert done.returncode == 0


@pytest.fixture
def two_gpus(monkeypatch):
    """Of two GPUs, the first is current; what is current in each launch is listed."""
    current = [0]

    @contextmanager
    def device(target):
        current.append(target.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "device", device)
    return current


@needs_triton
@pytest.mark.parametrize("index", [0, 1])
def test_a_kernel_is_launched_on_the_device_of_its_tensors(index, two_gpus, monkeypatch):
    """Triton takes the current device, and addresses of another one end the process."""
    from swbench.solvers.triton_kernels import jacobi, polar

    launched = []

    class Kernel:
        def __getitem__(self, grid):
            return lambda *arguments, **constants: launched.append(two_gpus[-1])

    class OnSecondGpu(torch.Tensor):
        """A tensor that says it is on a GPU."""

        device = property(lambda self: torch.device("cuda", index))

    monkeypatch.setattr(jacobi, "jacobi_kernel", Kernel())
    cov = torch.eye(16).unsqueeze(0).as_subclass(OnSecondGpu)
    polar._launch(Kernel(), (cov, cov), (), "ieee")
    jacobi.jacobi(cov, 1, 1e-7, "ieee")
    assert launched == [index, index]
    assert two_gpus == [0]
