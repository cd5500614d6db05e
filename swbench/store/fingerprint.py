"""What must stay the same for a run to go on: the plan, the code that is timed, and the machine."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

TIMED = ("case.py", "result.py", "native", "solvers", "norms", "models", "clock", "probes", "machine", "engine")
"""The parts of the package whose code runs in a worker. Reports and the command line may change between a run and its resumption."""

_SUFFIXES = {".py", ".c", ".cpp", ".h", ".cu", ".csv"}

VOLATILE = {"recorded", "now", "time", "load", "pressure", "uptime", "free", "available", "temperature", "warnings", "advice", "boot", "command", "pid", "cwd"}
"""Words of environment keys that differ between any two readings of the same machine."""


def code() -> dict[str, str]:
    """A short hash of every source file that a worker may run, by its path in the package."""
    package = Path(__file__).resolve().parents[1]
    found = {}
    for part in TIMED:
        top = package / part
        files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.suffix in _SUFFIXES)
        for path in files:
            found[path.relative_to(package).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return found


def environment_id(environment: Mapping[str, Any]) -> str:
    """12 hex digits for what is steady in an environment."""
    steady = {path: value for path, value in _flat(environment) if not _volatile(path)}
    return hashlib.sha256(json.dumps(steady, sort_keys=True, default=str).encode()).hexdigest()[:12]


def environment_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What differs between two environments, one line a key, readings that always differ left out."""
    return _changes({k: v for k, v in _flat(before) if not _volatile(k)}, {k: v for k, v in _flat(after) if not _volatile(k)})


def code_changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Source files that differ, by name."""
    names = sorted(set(before) | set(after))
    return [
        f"{name if name.startswith('plugin ') else f'swbench/{name}'} {'is new' if name not in before else 'is gone' if name not in after else 'changed'}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = sorted(set(before) | set(after))
    return [f"{name} was {before.get(name)!r} and is {after.get(name)!r}" for name in names if before.get(name) != after.get(name)]


def _flat(data: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", json.loads(json.dumps(value, default=str))


def _volatile(path: str) -> bool:
    return bool(VOLATILE & set(path.lower().replace("_", ".").replace("-", ".").replace(" ", ".").split(".")))
