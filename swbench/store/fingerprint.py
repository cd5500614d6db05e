"""A fingerprint of the timed code, which must not change for a run to be resumed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

TIMED = (
    "case.py",
    "result.py",
    "codec.py",
    "native",
    "solvers",
    "norms",
    "models",
    "clock",
    "probes",
    "machine",
    "stats",
    "worker",
    "ranks",
    "run",
)
"""The parts of the package whose code runs in a worker. Other parts may change before a run is
resumed.
"""

_SUFFIXES = {".py", ".c", ".cpp", ".h", ".cu", ".csv"}


def code() -> dict[str, str]:
    """A short hash of every source file that a worker may run, by its path in the package."""
    package = Path(__file__).resolve().parents[1]
    hashes = {}
    for part in TIMED:
        top = package / part
        files = (
            [top]
            if top.is_file()
            else sorted(path for path in top.rglob("*") if path.suffix in _SUFFIXES)
        )
        for path in files:
            hashes[path.relative_to(package).as_posix()] = hashlib.sha256(
                path.read_bytes()
            ).hexdigest()[:12]
    return hashes


def code_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """One line for each source file that differs."""
    names = sorted(set(before) | set(after))
    return [
        (
            f"{name if name.startswith('plugin ') else f'swbench/{name}'} "
            f"{'is new' if name not in before else 'is gone' if name not in after else 'changed'}"
        )
        for name in names
        if before.get(name) != after.get(name)
    ]
