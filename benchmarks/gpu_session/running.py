"""One step: its commands within its limit, what they print in a text, and in order at the end."""

import os
import shlex
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from gpu_session.steps import ROOT

GRACE_S, SHOW_S = 20.0, 30.0
"""How long an end in order may take after the limit, and the table of what was measured."""

STOPPED = 124
"""The exit code of a step that was stopped, as that of timeout(1)."""


def step(
    commands: Sequence[Sequence[str]],
    text: Path,
    limit_s: float,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run commands one after the other with their output in `text` for at most `limit_s` (0 for
    ever); returns the highest exit code, `STOPPED` after an end in order and a table of what was
    measured until then, 127 for a program that is not there.
    """
    until, worst = time.monotonic() + limit_s, 0
    with open(text, "w", encoding="utf-8") as file:
        for words in commands:
            left_s = until - time.monotonic()
            if limit_s and left_s <= 0:
                file.write(f"not begun after {limit_s:g} s: {shlex.join(words)}\n")
                return STOPPED
            code = _run(words, file, left_s if limit_s else 0.0, limit_s, environment or {})
            worst = max(worst, code)
            if code == STOPPED:
                return STOPPED
    return worst


def _run(
    words: Sequence[str],
    file: IO[str],
    left_s: float,
    limit_s: float,
    environment: Mapping[str, str],
) -> int:
    runs = Path(words[words.index("--results") + 1]) if "--results" in words else None
    before = _stored(runs)
    try:
        running = subprocess.Popen(
            words,
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
        )
    except OSError as problem:
        file.write(f"{words[0]}: {problem.strerror}\n")
        file.flush()
        return 127
    try:
        code = running.wait(timeout=left_s or None)
        return code if code >= 0 else 128 - code  # a signal, told as a shell tells it
    except subprocess.TimeoutExpired:
        running.terminate()
    except BaseException:
        running.terminate()
        raise
    try:
        running.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
    file.write(f"stopped after {limit_s:g} s\n")
    file.flush()
    # none where it was stopped before it had one: the newest is an earlier step's then
    for run in sorted(_stored(runs) - before)[-1:]:
        _show([*words[:2], "show", run, "--results", str(runs)], file)
    return STOPPED


def _show(show: list[str], file: IO[str]) -> None:
    try:
        subprocess.run(
            show, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, timeout=SHOW_S, check=False
        )
    except subprocess.TimeoutExpired:
        file.write(f"no table within {SHOW_S:g} s; {shlex.join(['python', *show[1:]])} prints it\n")


def _stored(runs: Path | None) -> set[str]:
    """The names of the runs in a folder."""
    return {item.parent.name for item in runs.glob("*/run.json")} if runs else set()
