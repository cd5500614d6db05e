"""The Triton backend, in processes of their own: the interpreter must be asked for before Triton
is imported.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from swbench.norms import kernels
from swbench.norms.context import Call, Running
from swbench.norms.kernels.triton_kernels import backend as triton_backend
from swbench.norms.recipe import Recipe
from swbench.solvers import choice
from swbench.solvers.polar_triton import PolarTriton

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)
CONTRACT = ("test_norm_kernels.py", "-k", "triton")
FEW = (
    "test_norm_kernels.py",
    "-k",
    ("triton and not dtype1 and not dtype3 and not shape0 and not shape3 and not shape5"),
)
LAYERS = ("interpreted_triton.py",)
ALL_LAYERS = (*LAYERS, "-o", "addopts=")
HARDWARE_LIKE = (*LAYERS, "-p", "hardware_like")
A_FEW = "groups_and_shapes or (equals_the_naive and (bw or swb or iw))"


COLD_S = 540
"""A cold cache of Triton's has every kernel compiled and every launcher built first."""


def run(arguments, limit_s=220, **environment):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **environment,
    }
    file, *options = arguments
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-W",
        "default",
        "-v",  # so that the header says what was done
        "-o",
        f"timeout={limit_s}",
        str(HERE / file),
        *options,
    ]
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
    return done.stdout


@needs_triton
def test_a_few_layers_in_the_interpreter():
    assert "passed" in run(FEW, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
def test_any_program_order_with_nan_memory_and_tensor_core_products():
    output = run((*HARDWARE_LIKE, "-k", A_FEW), TRITON_INTERPRET="1")
    assert "hardware-like: shuffle, tf32, poison" in output
    assert "passed" in output


@needs_triton
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("arguments", [CONTRACT, ALL_LAYERS], ids=["contract", "layers"])
def test_all_layers_in_the_interpreter(arguments):
    assert "passed" in run(arguments, 1780, TRITON_INTERPRET="1")


@needs_triton
@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_all_layers_in_any_program_order_with_nan_memory(seed):
    output = run(HARDWARE_LIKE, 1780, TRITON_INTERPRET="1", HARDWARE_SEED=seed)
    assert "hardware-like: shuffle, tf32, poison" in output
    assert "passed" in output


@needs_triton
@pytest.mark.gpu
@pytest.mark.timeout(COLD_S + 20)
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("arguments", [CONTRACT, ALL_LAYERS], ids=["contract", "layers"])
def test_all_layers_compiled(arguments):
    assert "passed" in run(arguments, COLD_S, SWBENCH_TEST_DEVICE="cuda:0")


@pytest.fixture
def forgetful():
    """What was found out about devices is forgotten before and after."""
    triton_backend._supports_device.cache_clear()
    choice._choose.cache_clear()
    yield
    triton_backend._supports_device.cache_clear()
    choice._choose.cache_clear()


def test_cpu_tensors_are_refused_without_the_interpreter(monkeypatch, forgetful):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert not kernels.named("triton").takes(torch.zeros(1, 4, 1, 1))


@needs_triton
@pytest.mark.parametrize(("version", "taken"), [("3.2.0", False), ("3.3.1+git1", True)])
def test_triton_is_used_from_the_oldest_supported_version(monkeypatch, forgetful, version, taken):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(triton_backend.importlib.metadata, "version", lambda name: version)
    assert kernels.named("triton").takes(torch.zeros(1, 4, 1, 1)) is taken


def test_naming_the_kernel_set_does_not_import_triton():
    code = (
        "import sys, torch; from swbench.norms import kernels; kernels.named('triton'); "
        "sys.exit('triton' in sys.modules and 3)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("group", "dtype", "is_available", "chosen"),
    [
        (16, torch.float32, True, "polar-triton"),
        (16, torch.float32, False, "eigh"),
        (80, torch.float32, True, "eigh"),
        (16, torch.float64, True, "eigh"),
    ],
)
def test_auto_on_an_unmeasured_gpu(monkeypatch, forgetful, group, dtype, is_available, chosen):
    monkeypatch.setattr(choice, "measured", tuple)
    monkeypatch.setattr(
        "swbench.solvers.polar_triton.PolarTriton.available",
        lambda self, device: None if is_available else "not here",
    )
    assert choice.choose(torch.device("cuda"), group, 72, dtype) == chosen


@needs_triton
def test_plan_keys_differ_by_everything_that_is_compiled_in():
    from swbench.norms.kernels.triton_kernels.autograd_function import plan_key

    x, recipe, given = (
        torch.zeros(2, 4, 3, 3),
        Recipe(("bw",), 4, 1e-5),
        (torch.ones(4), torch.zeros(4), None, None),
    )
    mean, cov = torch.zeros(1, 4, 1), torch.eye(4).view(1, 4, 4)

    def key(running, given=given):
        return plan_key(Call(recipe, PolarTriton(), running, True), x, given)

    plain = key(Running(mean, cov, 0.99))
    assert plain == key(Running(mean.clone(), cov.clone(), 0.99))
    assert plain != key(Running(mean.half(), cov, 0.99))
    assert plain != key(Running(mean, cov.half(), 0.99))
    with pytest.raises(RuntimeError, match="the input is on cpu, tensors of the layer on meta"):
        key(Running(mean, cov, 0.99), (given[0].to("meta"), *given[1:]))


@needs_triton
def test_a_compiled_kernel_is_called_with_addresses(monkeypatch):
    """As `JITFunction.run` calls it: grid, stream, handles, hooks, then every argument in the order
    of the signature.
    """
    from swbench.norms.kernels.triton_kernels import launch
    from swbench.norms.kernels.triton_kernels.workspace import Workspace

    calls = []

    class Compiled:
        function, packed_metadata = "function", "metadata"

        def run(self, *arguments):
            calls.append(arguments)

    class Kernel:
        def __getitem__(self, grid):
            return lambda *arguments, **constants: (
                calls.append((grid, arguments, constants)) or Compiled()
            )

    monkeypatch.setattr(launch, "direct", lambda: True)
    monkeypatch.setattr(
        launch.triton.runtime.driver,
        "_active",
        type("Driver", (), {"get_current_stream": lambda self, index: 77})(),
        raising=False,
    )
    item = launch.Launch(Kernel(), 5, (3, 0.5), {"TILE": 16}, 4, ("x", None, "w"))
    workspace, x = Workspace(w=3, none=0, v=40), torch.zeros(8)
    memory = workspace.allocate(x)
    tensors = workspace.tensors(memory)
    assert tensors["none"] is None
    assert [tensors["w"].numel(), tensors["v"].numel()] == [3, 40]
    launch.launch([item], {"x": x}, ((workspace, memory),), torch.device("cpu"))
    grid, arguments, constants = calls[0]
    assert (grid, constants) == ((5,), {"TILE": 16, "num_warps": 4})
    assert (arguments[0].data_ptr(), arguments[1], arguments[2].data_ptr(), *arguments[3:]) == (
        x.data_ptr(),
        None,
        memory.data_ptr(),
        3,
        0.5,
    )
    launch.launch([item], {"x": x}, ((workspace, memory),), torch.device("cpu"))
    assert calls[1] == (
        5,
        1,
        1,
        77,
        "function",
        "metadata",
        None,
        None,
        None,
        x.data_ptr(),
        None,
        memory.data_ptr(),
        3,
        0.5,
        16,
    )
    aligned = item.compiled
    launch.launch([item], {"x": x[1:]}, ((workspace, memory),), torch.device("cpu"))
    assert calls[2][0] == (5,)  # not a multiple of 16 bytes: the plain way
    assert item.compiled is aligned  # what was compiled for that loads one by one
    launch.launch([item], {"x": x}, ((workspace, memory),), torch.device("cpu"))
    assert calls[3][0] == 5
