"""Resumes an unfinished run, if nothing has changed that its timings depend on."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swbench import program
from swbench.errors import ResumeRefused, StoreDamaged, StoreError
from swbench.machine.environment import unlike
from swbench.plan import Plan
from swbench.store import fingerprint, folder
from swbench.store.files import read_json, write_json
from swbench.store.lock import Lock
from swbench.store.reading import plan_of, read_content
from swbench.store.writer import RunWriter
from swbench.version import __version__


def resume(
    path: str | Path,
    plan: Plan | None = None,
    environment: Mapping[str, Any] | None = None,
    *,
    anyway: bool = False,
    command: str = "",
    plugins: Mapping[str, str] | None = None,
) -> RunWriter:
    """A writer for an unfinished run. Torn lines are cut off, and replicates that are not sealed
    will be measured again.

    The run keeps its own plan. Raises ResumeRefused, which names the changes, where `plan` (that of
    the same command now), the timed code, `plugins` (name -> digest) or `environment` (as far as it
    changes timings) differ from the run's; `anyway` goes on and records the changes. Raises
    StoreBusy while another process writes the run, StoreDamaged, and StoreError where it is
    complete.
    """
    path = Path(path)
    folder.header(path)
    lock = Lock(path)
    try:
        return _resume(path, lock, plan, environment, anyway, command, plugins)
    except BaseException:
        lock.release()
        raise


def _resume(path, lock, plan, environment, anyway, command, plugins) -> RunWriter:
    header = folder.header(path)
    if header["complete"]:
        raise StoreError(
            f"run {path.name} is complete; show it with `{program.command()} show {path.name}`"
        )
    stored, before = plan_of(path, header), read_json(path / folder.ENVIRONMENT)
    changes = _plan_changes(stored, plan) if plan is not None else []
    changes += fingerprint.code_changes(header["code"], fingerprint.code() | dict(plugins or {}))
    changes += unlike(before, environment) if environment is not None else []
    if changes and not anyway:
        more = f" … and {len(changes) - 8} more" if len(changes) > 8 else ""
        raise ResumeRefused(
            f"run {path.name} cannot be resumed, for it began otherwise: "
            f"{'; '.join(changes[:8])}{more}. "
            "Start a new run, or go on with --resume --anyway, which records the changes"
        )
    content = read_content(path, stored)
    if content.damaged:
        raise StoreDamaged(
            f"{content.damaged[0]}; the run cannot go on from damaged results, start a new one"
        )
    header["resumed"].append(
        {
            "time": time.time(),
            "command": command,
            "changes": changes,
            "recovered": list(content.torn),
        }
    )
    if header["schema"] != folder.SCHEMA:
        # an earlier version would misread what is added from here on
        header.update(schema=folder.SCHEMA, needs=__version__)
    now = environment if environment is not None else before
    writer = RunWriter(path, header, stored, now, lock, content)
    write_json(path / folder.RUN, header)
    return writer


def _plan_changes(stored: Plan, requested: Plan) -> list[str]:
    """The differences of two plans, in words; empty where they are equal."""
    if stored == requested:
        return []
    old, new = stored.to_json(), requested.to_json()
    changes = [
        f"protocol.{name} was {value} and is {new['protocol'].get(name)}"
        for name, value in old["protocol"].items()
        if value != new["protocol"].get(name)
    ]
    cases = [
        {case.key for group in plan.groups for case in group.cases} for plan in (stored, requested)
    ]
    if removed := len(cases[0] - cases[1]):
        changes.append(f"{removed} of its cases are no longer in the suite")
    if added := len(cases[1] - cases[0]):
        changes.append(f"the suite has {added} new cases")
    if [group.fallback_of for group in stored.groups] != [
        group.fallback_of for group in requested.groups
    ]:
        changes.append("other batches are measured only where a larger one does not fit")
    return changes or ["the suite's title, rows or metrics changed"]
