"""The wheel and the sdist, each installed into an environment of its own with nothing of the
checkout on the path, do what the README says, from an empty folder.
"""

import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import dist  # noqa: E402  beside the package

pytestmark = [
    pytest.mark.skipif(not (ROOT / ".git").exists(), reason="the manifest is what git tracks"),
    pytest.mark.timeout(900),
]
FORMATS = {"table.md", "table.csv", "samples.csv", "table.tex", "table.json", "table.html"}
PRINTED = ["4.143", "4.185", "4.185", "4.188"]
"""GFLOPs of the four rows of the supplement's Table 1."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist and the wheel, as `make dist` builds them."""
    return dist.build(tmp_path_factory.mktemp("dist"))


@pytest.fixture(
    scope="module",
    params=["wheel", pytest.param("sdist without a compiler", marks=pytest.mark.slow)],
)
def installed(request, built, tmp_path_factory):
    """An environment with swbench and what it needs: kind, its Python, an empty folder to work in.

    The dependencies are those installed here: without them installing would take minutes.
    """
    sdist, wheel = built
    place = tmp_path_factory.mktemp("environment")
    environ = clean() | {"CC": "/bin/false"}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    python = place / "venv" / "bin" / "python"
    (site,) = (place / "venv" / "lib").glob("python*/site-packages")
    others = [path for path in sys.path if path.endswith("-packages")]
    (site / "dependencies.pth").write_text("\n".join(others))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps"]
    what = [str(wheel)] if request.param == "wheel" else ["--no-build-isolation", str(sdist)]
    subprocess.run(
        [*pip, "--quiet", "--no-index", "--force-reinstall", *what],
        env=environ,
        cwd=place,
        check=True,
    )
    (place / "work").mkdir()
    return request.param, python, place / "work"


def clean():
    """The variables of this process without those that lead to the checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {
        "OMP_NUM_THREADS": "1"
    }


@pytest.fixture
def swbench(installed):
    """`swbench("list")` runs the installed command: code, stdout, stderr."""
    _, python, work = installed

    def command(*words):
        done = subprocess.run(
            [python.parent / "swbench", *words],
            cwd=work,
            env=clean(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    return command


def test_wheel_and_sdist_hold_their_files_and_metadata(built):
    assert dist.check(*built) == []


def test_manifest_check_detects_a_missing_file(built, monkeypatch):
    sdist, wheel = built
    monkeypatch.setattr(dist, "tracked", lambda: ["swbench/case.py", "suites/none.toml"])
    wrong = dist.check(sdist, wheel)
    assert f"{wheel.name}: swbench/shipped/suites/none.toml is missing" in wrong
    assert f"{wheel.name}: swbench/result.py does not belong there" in wrong


def test_the_tag_of_the_wheel_is_that_of_its_library(built):
    _, wheel = built
    assert "manylinux" in wheel.name or "musllinux" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        (library,) = (name for name in archive.namelist() if name.endswith(".so"))
        content = archive.read(library)
    assert sysconfig.get_config_var("prefix").encode() not in content, "no place of this machine"


def test_installed_distribution_is_imported(installed):
    _, python, work = installed
    program = "import swbench, sys; print(swbench.__file__); print(*sys.path, sep='\\n')"
    paths = subprocess.run(
        [python, "-c", program], cwd=work, env=clean(), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert Path(paths[0]).is_relative_to(python.parents[1])
    assert str(ROOT) not in paths[1:]


def test_installed_package_runs_a_suite(installed, swbench):
    kind, _, work = installed
    version = swbench("--version")[1]
    assert version.startswith("swbench ")
    assert ("no native kernels" in version) == (kind != "wheel")
    code, out, _ = swbench("list")
    assert code == 0
    assert {"  imagenet", "  cityscapes", "  polar", "  resnet50"} <= set(out.splitlines())
    code, out, _ = swbench("check", "imagenet")
    assert (code, out.partition(":")[2].startswith(" right; 1 group")) == (0, True)

    code, out, err = swbench(
        "run", "cifar", "--only", "ResNet20-SW*", "--batch", "1", "--threads", "1", "--quick"
    )
    assert code == 0, err
    assert "ResNet20-SW^a" in out
    assert ("native kernels" in out + err) == (kind != "wheel"), "what is missing is said"
    (run,) = (work / "results").iterdir()
    environment = json.loads((run / "environment.json").read_text())
    assert ("instructions" in environment["torch"]["native"]) == (kind == "wheel")
    assert environment["code"]["commit"] is None, "an installed copy is no commit of anything"
    assert "Reproduce: swbench run cifar" in out.replace("OMP_NUM_THREADS=1 ", "")

    assert swbench("show", "latest")[:2] == (0, out)
    code, out, _ = swbench("export", "latest")
    assert code == 0
    assert {Path(line).name for line in out.splitlines()} >= FORMATS
    code, out, _ = swbench("plot", "latest")
    assert code == 0
    assert all((work / line).stat().st_size > 1000 for line in out.splitlines())
    assert swbench("compare", "latest", "latest")[0] == 0
    code, out, _ = swbench("doctor")
    assert code == 0
    assert ("native extension: built and in use" in out) == (kind == "wheel")

    code, out, _ = swbench("run", "imagenet", "--metrics", "flops", "--format", "csv")
    assert code == 0
    head, *rows = (line.split(",") for line in out.splitlines())
    assert [f"{float(row[head.index('gflops_paper')]):.3f}" for row in rows] == PRINTED


def test_an_sdist_says_its_own_version(built):
    import swbench

    with tarfile.open(built[0]) as archive:
        assert f"swbench-{swbench.__version__}/setup.py" in archive.getnames()
