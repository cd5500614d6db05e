"""Writes runs that were built in memory to a results folder, and holds the output of a command."""

from pathlib import Path
from typing import NamedTuple


class CommandResult(NamedTuple):
    """What a command answered."""

    code: int
    out: str
    err: str


def store(folder: Path, run) -> Path:
    """Write a run that was built in memory."""
    from swbench.store import RunWriter

    with RunWriter.create(folder, run.plan, run.environment, run.command) as writer:
        for round_ in run.rounds:
            writer.add_round(round_)
        by_seal: dict = {}
        for result in run.results:
            by_seal.setdefault((result.group, result.replicate), []).append(result)
        for sealed in by_seal.values():
            writer.seal(sealed)
        if run.complete:
            writer.finish()
        return writer.path
