"""What must be carried to a machine without network, and whether it is there."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from gpu_session.steps import STEPS

ALL = (
    *("torch", "numpy", "scipy", "pandas", "click", "rich", "jinja2", "markupsafe", "matplotlib"),
    "psutil",
)
"""Modules without which nothing runs."""
SOME = {
    "fvcore.nn": "the fvcore column of FLOPs",
    "pynvml": "utilisation, energy, throttling and the check for other programs",
    "triton": "the whitening kernels",
    "pytest": "the step correct",
    "xdist": "the step correct",
}
"""Module -> what is left out without it."""
WHEELS = "fvcore iopath yacs termcolor tabulate portalocker tqdm nvidia-ml-py pytest pytest-xdist"
WHEELS += " execnet pluggy iniconfig pygments"
PREPARE = f"pip wheel --no-deps --wheel-dir wheels {WHEELS}"
"""Run where there is a network; all are pure Python, about 3 MB."""

_PROGRAM = """
import importlib, json, sys
found = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        found[name] = ""
    except BaseException as problem:
        found[name] = f"{type(problem).__name__}: {problem}"
print(json.dumps(found))
"""


def install(wheels: Path, folder: Path) -> str:
    """Install the wheels of `wheels` that are not importable here to `folder`, outside of the tree,
    and let what is started from now on find them; returns what pip said where it failed.
    """
    wheel_files = sorted(str(wheel) for wheel in wheels.glob("*.whl"))
    if not wheel_files:
        return f"no wheels in {wheels}"
    pip_command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*pip_command, "--upgrade", "--target", str(folder), *wheel_files],
        capture_output=True,
        text=True,
        check=False,
    )
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [os.environ.get("PYTHONPATH"), str(folder)])
    )
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    return done.stderr.strip() if done.returncode else ""


def missing() -> dict[str, str]:
    """Module -> why it cannot be imported, by a process of its own; empty where all can."""
    names = [*ALL, *SOME]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *names], capture_output=True, text=True, check=False
    )
    try:
        failures = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"python": done.stderr.strip()[-300:] or f"exit {done.returncode}"}
    return {name: why for name, why in failures.items() if why}


def report(lacking: dict[str, str]) -> list[str]:
    """A line a module that is not there, and how to carry it."""
    lines = [
        f"missing {name} ({why}): {SOME.get(name, 'nothing runs without it')}"
        for name, why in lacking.items()
    ]
    remedy = f"carry them: {PREPARE}; then --wheels wheels"
    return [*lines, remedy] if lines else ["every package that the session needs is here"]


def left_out(lacking: dict[str, str]) -> dict[str, str]:
    """Step -> the module that it lacks."""
    bare = {name.partition(".")[0] for name in lacking}
    return {
        name: next(need for need in step.needs if need in bare)
        for name, step in STEPS.items()
        if bare & set(step.needs)
    }
