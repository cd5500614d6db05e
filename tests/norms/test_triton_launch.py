"""Kernels called with addresses are given what Triton's own dispatch gives them, with the Triton
that is installed, on a driver that launches nothing.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TRITON = importlib.util.find_spec("triton")
COMPILER = shutil.which("cc") or shutil.which("gcc")
OTHERS = [path for path in os.environ.get("SWBENCH_TEST_TRITONS", "").split(os.pathsep) if path]
"""Folders that hold another Triton each (`pip install --target`), for `make gpu-check`."""

HEADERS = Path(sysconfig.get_path("include"), "Python.h")
pytestmark = pytest.mark.skipif(
    TRITON is None or COMPILER is None or not HEADERS.exists(),
    reason="Triton, a C compiler or the headers of Python are not installed",
)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """A folder with the fake `libcuda.so.1`."""
    folder = tmp_path_factory.mktemp("driver")
    include = Path(TRITON.origin).parent / "backends" / "nvidia" / "include"
    words = [COMPILER, "-shared", "-fPIC", "-w", f"-I{include}", "-Wl,-soname,libcuda.so.1"]
    words += ["-o", str(folder / "libcuda.so.1"), str(HERE.parent / "support" / "fake_libcuda.c")]
    subprocess.run(words, check=True, timeout=60)
    (folder / "libcuda.so").symlink_to("libcuda.so.1")
    return folder


@pytest.fixture
def launched(driver, tmp_path):
    """`launched("swa:1", …)` -> what `fake_driver_launches.py` found, with Triton from `triton`
    where that is a folder.
    """

    def launched(*layers, triton=""):
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TRITON_LIBCUDA_PATH": str(driver),
            "LD_LIBRARY_PATH": str(driver),
            "TRITON_CACHE_DIR": str(tmp_path / "cache"),
            "PYTHONPATH": os.pathsep.join(filter(None, [triton, *sys.path])),
        }
        environment.pop("TRITON_INTERPRET", None)
        done = subprocess.run(
            [sys.executable, str(HERE / "fake_driver_launches.py"), *layers],
            env=environment,
            capture_output=True,
            text=True,
            timeout=220,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return launched


def assert_equal(result, kernels):
    launches = [launch for layer in result["layers"].values() for launch in layer]
    assert [launch["kernel"] for launch in launches] == kernels
    for launch in launches:
        assert launch["plain"]["launches"] == launch["direct"]["launches"] == 1
        assert launch["plain"] == launch["direct"], launch
        assert len(launch["plain"]["parameters"]) >= 5
        assert any(value > 2**32 for value in launch["plain"]["parameters"]), "no address was seen"


SEVERAL = ["sums", "merge", "solve", "map", "sums", "small", "gather", "map"]
SHARED = ["sums", "merge", "solve", "map", "sums", "total", "small", "map"]
ALONE = ["sums", "solve", "map", "sums", "small", "map"]


def test_launches_by_address_pass_the_arguments_of_tritons_dispatch(launched):
    result = launched("swa:1:forward")
    assert result["known"], f"Triton {result['triton']} is launched the slow way: see launch.KNOWN"
    assert_equal(result, ALONE[:3])


@pytest.mark.slow
@pytest.mark.parametrize("triton", ["", *OTHERS])
def test_every_kernel_of_every_layer_with_every_available_triton(launched, triton):
    result = launched("swa:1", "swb:3", "bw:2", "iw:2", triton=triton)
    # one image without a mixture, and several without the batch's statistics, need fewer
    assert result["known"], result["triton"]
    layers = result["layers"]
    for name, kernels in (("swa:1", ALONE), ("swb:3", SEVERAL), ("bw:2", SHARED)):
        assert_equal({"layers": {name: layers[name]}}, kernels)
    assert_equal(
        {"layers": {"iw:2": layers["iw:2"]}}, [launch["kernel"] for launch in layers["iw:2"]]
    )
