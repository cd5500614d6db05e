"""Profiling of a case in a fresh process, and the file of its profile."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from swbench import plugins as plugin_files
from swbench.case import Case
from swbench.errors import OptionError, ProfileFailed, StoreDamaged
from swbench.plugins import Plugin
from swbench.profile.types import Profile
from swbench.worker.process import environment

PROFILE_FILE, TRACE_FILE = "profile.json", "trace.json"


def profile_case(
    case: Case,
    iterations: int = 10,
    trace: Path | None = None,
    *,
    limit_s: float = 600.0,
    plugins: Sequence[Plugin] = (),
) -> Profile:
    """The profile of one call of `case`, from the quicker half of `iterations` profiled calls in a
    fresh process with the case's threads.

    `trace`, if given, is the file for the timeline of the last call, for chrome://tracing or
    ui.perfetto.dev. The process executes `plugins` first. Raises OptionError for a case or count
    that cannot be profiled, ProfileFailed if the process ran out of memory, crashed, or took longer
    than `limit_s` seconds.
    """
    if iterations < 1:
        raise OptionError(f"a profile needs at least 1 iteration, not {iterations}")
    if case.kind != Case.kind:
        raise OptionError(
            f"a profile is of a network, and this case is a {case.kind}; choose a "
            "row of a network suite"
        )
    with tempfile.TemporaryDirectory(prefix="swbench-profile-") as folder:
        result_path = Path(folder) / PROFILE_FILE
        trace_path = str(trace.absolute()) if trace else None
        request = {
            "case": case.to_json(),
            "iterations": iterations,
            "trace": trace_path,
            "out": str(result_path),
            "plugins": plugin_files.to_json(plugins),
        }
        try:
            process = subprocess.run(
                [sys.executable, "-P", "-m", "swbench.profile.worker"],
                input=json.dumps(request),
                # the profiler's own chatter
                env={**environment(case.threads), "KINETO_LOG_LEVEL": "5"},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired:
            raise ProfileFailed(
                f"profiling took longer than {limit_s:.0f} s; use fewer iterations or "
                "a smaller batch"
            ) from None
        if process.returncode or not result_path.exists():
            last_line = next(
                (line for line in reversed(process.stderr.splitlines()) if line.strip()),
                "no message",
            )
            raise ProfileFailed(
                f"the profiling process ended with code {process.returncode}: {last_line}"
            )
        answer = json.loads(result_path.read_text())
    if "profile" in answer:
        return Profile.from_json(answer["profile"])
    if answer["status"] in ("refused", "unsupported"):
        raise OptionError(answer["detail"])
    raise ProfileFailed(f"{answer['status'].replace('_', ' ')}: {answer['detail']}")


def save(profile: Profile, folder: Path) -> Path:
    """Write `profile.json` into `folder`, made if need be, and return its path. Keep it apart from
    `results/`: a profile is no timing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / PROFILE_FILE
    path.write_text(json.dumps(profile.to_json(), indent=1) + "\n")
    return path


def load(path: Path) -> Profile:
    """The profile in a file that `save` wrote, or in a folder that holds one. Raises StoreDamaged
    or SchemaTooNew.
    """
    path = path / PROFILE_FILE if path.is_dir() else path
    try:
        return Profile.from_json(json.loads(path.read_text()))
    except (OSError, ValueError) as problem:
        raise StoreDamaged(f"{path} cannot be read as a profile: {problem}") from problem
