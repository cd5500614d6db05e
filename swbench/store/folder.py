"""Run folders: how they are named, found and listed."""

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swbench import codec, program
from swbench.errors import SchemaTooNew, StoreError, UnknownName
from swbench.store.files import cannot, read_json
from swbench.version import __version__

SCHEMA = 3

RUN, SUITE, ENVIRONMENT, ROUNDS, CELLS = (
    "run.json",
    "suite.toml",
    "environment.json",
    "rounds.jsonl",
    "cells.jsonl",
)

HEADER = {
    "created": float,
    "command": str,
    "options": dict[str, Any],
    "complete": bool,
    "resumed": list[dict[str, Any]],
    "code": dict[str, str],
    "plan": dict[str, Any],
}
"""The fields of run.json beside `schema` and the version, with their types."""


@dataclass(frozen=True)
class Summary:
    """The facts of a run that a listing shows, without its samples; `created` is Unix time."""

    path: Path
    id: str
    suite: str
    title: str
    created: float
    complete: bool
    command: str
    options: Mapping[str, Any]


def make(results: Path, suite: str, machine: str) -> Path:
    """Create a new, empty run folder. `machine` is the machine's label in the name. Raises
    StoreError where it cannot be created.
    """
    machine = _slug(machine) or "machine"
    name = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}_{_slug(suite) or 'suite'}_{machine}"
    try:
        results.mkdir(parents=True, exist_ok=True)
        for attempt in range(1, 1000):
            path = results / (name if attempt == 1 else f"{name}-{attempt}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            for part in ("logs", "exports"):
                (path / part).mkdir()
            return path
    except OSError as problem:
        raise cannot("write results to", results, problem) from problem
    raise StoreError(
        f"{results} has a thousand runs from this second; choose another folder with --results"
    )


def find(results: str | Path, ref: str | Path) -> Path:
    """The folder of a run: a path, an id, an unambiguous start of an id, or `latest`. Raises
    UnknownName or StoreError.
    """
    results, text = Path(results), str(ref)
    known = [summary.id for summary in runs(results)]
    if text == "latest":
        if not known:
            raise StoreError(no_runs(results))
        return results / known[-1]
    if text in known:
        return results / text
    if (Path(text) / RUN).is_file():
        return Path(text)
    starting = [name for name in known if text and name.startswith(text)]
    if len(starting) == 1:
        return results / starting[0]
    if Path(text).is_dir():
        raise StoreError(f"{text} is a folder, but holds no run ({RUN} is missing)")
    if (Path(text).parent / RUN).is_file() and Path(text).exists():
        raise StoreError(f"{text} is a file of a run; give its folder, {Path(text).parent}")
    raise UnknownName("run", text, known[-20:], str(results))


def no_runs(results: str | Path) -> str:
    """The message for a results folder without a run."""
    if Path(results).is_file():
        return f"{results} is a file, not a folder of runs; choose another with --results"
    return f"there is no run in {results} yet; `{program.command()} imagenet` makes one"


def runs(results: str | Path) -> tuple[Summary, ...]:
    """Every run in a results folder, oldest first; folders that hold no readable run are left
    out.
    """
    summaries = []
    try:
        entries = [
            Path(entry.path) for entry in os.scandir(results) if entry.is_dir(follow_symlinks=False)
        ]
    except OSError:
        return ()
    for path in entries:
        try:
            summaries.append(summary(path))
        except StoreError:
            continue
    return tuple(sorted(summaries, key=lambda summary: (summary.created, summary.id)))


def newest(results: str | Path, suite: str, options: Mapping[str, Any]) -> Summary | None:
    """The newest run of that suite with those options (those given to `RunWriter.create`); None if
    there is none.
    """
    wanted = _comparable(options)
    return next(
        (
            summary
            for summary in reversed(runs(results))
            if summary.suite == suite and _comparable(summary.options) == wanted
        ),
        None,
    )


def header(path: Path) -> dict[str, Any]:
    """The content of run.json. Raises StoreError, SchemaTooNew where a later version wrote it."""
    if not (path / RUN).exists():
        raise StoreError(f"{path} holds no run ({RUN} is missing)")
    data = read_json(path / RUN)
    schema = data.get("schema")
    if type(schema) is not int or schema < 1:
        raise StoreError(f"{path / RUN} has no schema number; it was changed since it was written")
    if schema > SCHEMA:
        version = (
            re.sub(r"[^0-9A-Za-z.+-]", "", str(data.get("needs") or data.get("swbench") or ""))[:40]
            or "a newer version"
        )
        raise SchemaTooNew(
            f"{path} was written with schema {schema}; swbench "
            f"{__version__} reads up to {SCHEMA}. Install swbench {version}"
        )
    for name, hint in HEADER.items():
        try:
            codec.read(data.get(name), hint)
        except ValueError:
            raise StoreError(
                f"{name} in {path / RUN} is not what was written; it was changed since"
            ) from None
    return data


def summary(path: Path) -> Summary:
    """The summary of one run. Raises StoreError."""
    data = header(path)
    suite, title = str(data["plan"].get("suite", "")), str(data["plan"].get("title", ""))
    return Summary(
        path,
        path.resolve().name,
        suite,
        title,
        data["created"],
        data["complete"],
        data["command"],
        data["options"],
    )


def _comparable(options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _listed(value)
        for name, value in options.items()
        if value not in (None, False, (), [])
    }


def _listed(value: Any) -> Any:
    """`value` as JSON gives it back: lists for tuples, however nested."""
    return [_listed(item) for item in value] if isinstance(value, tuple | list) else value


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).strip("-.")[:40]
