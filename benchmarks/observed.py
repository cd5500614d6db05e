"""A run of the command line as a user would start it, observed from outside: what it measured, what
share of its time, and what its parent process used.
"""

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from bisect import bisect
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from swbench.case import BASELINE, CONTROL  # noqa: E402
from swbench.machine.environment import environment_id  # noqa: E402
from swbench.report.overhead import spans, timed_share  # noqa: E402
from swbench.result import FAILURES, FORWARD, FORWARD_BACKWARD, Round  # noqa: E402
from swbench.stats.disturbance_rule import quietness  # noqa: E402
from swbench.stats.intervals import (  # noqa: E402
    log_ratio,
    replicate_value,
)
from swbench.stats.samples import (  # noqa: E402
    by_replicate,
    pairs,
)
from swbench.stats.stopping import confidence_of  # noqa: E402
from swbench.store import StoredRun, find, load  # noqa: E402

COMMAND = (sys.executable, str(ROOT / "bench.py"))
METRICS = (FORWARD, FORWARD_BACKWARD)
FAILED_CELL = 3
"""What the command line exits with where a run is complete but a cell of it failed
(docs/faults.md).
"""

LOOK_S = 0.25
_ACCOUNT = "account.json"
_PR_SET_PDEATHSIG = 1  # prctl(2)

Cell = tuple[str, str, str]


@dataclass(frozen=True)
class Account:
    """What was seen of a run from outside.

    `timed_share` is of the workers' time past warm-up; `parent_cores` and `competing_cores` are CPU
    seconds a second of `bench.py` itself (between the first and the last round of each worker) and
    of the competing load, in the life that ended the run; None where there was none. `seconds` is
    the length of that life, `lives` how many there were; `failed` counts the cells that ran out of
    memory, crashed or timed out.
    """

    arguments: list[str]
    run: str
    reason: str
    seconds: float
    lives: int
    timed_share: float | None
    parent_cores: float | None
    competing_cores: float | None
    quietness: str
    failed: int = 0


def bench(
    arguments: Sequence[str], folder: Path, neighbour: int | None = None
) -> tuple[StoredRun, Account]:
    """`bench.py run` with `arguments` in a results folder of its own, to its end.

    What an earlier life left there is gone on with, and a run that is complete is only read. One of
    which cells failed is told in a line and read like any other. Exits with the command's own
    status where that ends before the run is complete, and with 2 where the folder holds a run with
    other arguments.
    """
    if (folder / _ACCOUNT).exists():
        account = Account(**json.loads((folder / _ACCOUNT).read_text()))
        if account.arguments != list(arguments):
            sys.stderr.write(
                f"{folder} holds a run of {' '.join(account.arguments)}; choose "
                "another folder with --results\n"
            )
            raise SystemExit(2)
        return load(folder / account.run), account
    began, load_s = time.time(), _cpu_s(neighbour)
    process = subprocess.Popen(
        [*COMMAND, "run", *arguments, "--results", str(folder), "--resume"],
        stdout=subprocess.DEVNULL,
        preexec_fn=_tied if sys.platform == "linux" else None,
    )
    looks = []
    while process.poll() is None:
        if (used_s := _cpu_s(process.pid)) is not None:
            looks.append((time.time(), used_s))
        time.sleep(LOOK_S)
    if process.returncode not in (0, FAILED_CELL):
        raise SystemExit(process.returncode)
    seconds, load_end_s = time.time() - began, _cpu_s(neighbour)
    run = load(find(folder, "latest"))
    if not run.complete:
        raise SystemExit(process.returncode)
    if failed := sum(item.status in FAILURES for item in run.results):
        sys.stderr.write(
            f"{run.id}: {failed} of {len(run.results)} cells failed; the others count\n"
        )
    account = Account(
        arguments=list(arguments),
        run=run.id,
        reason=str(run.header.get("reason")),
        seconds=seconds,
        lives=1 + len(run.header["resumed"]),
        timed_share=timed_share(run.rounds, run.results),
        parent_cores=share_within(looks, [item for item in spans(run.rounds) if item[0] >= began]),
        competing_cores=None
        if load_s is None or load_end_s is None
        else (load_end_s - load_s) / seconds,
        quietness=quietness(
            [
                [item.disturbance for item in replicate]
                for rounds in _by_group(run)
                for replicate in by_replicate(rounds)
            ]
        ),
        failed=failed,
    )
    write(folder / _ACCOUNT, asdict(account))
    return run, account


def _tied() -> None:
    """Have the run end in order when this process dies, however it does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def _cpu_s(process: int | None) -> float | None:
    """CPU seconds of a process without its children; None where it is gone."""
    try:
        fields = os.fsdecode(Path(f"/proc/{process}/stat").read_bytes()).rpartition(")")[2].split()
    except OSError:
        return None
    return (
        (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else None
    )


def share_within(
    looks: Sequence[tuple[float, float]], spans: Iterable[tuple[float, float]]
) -> float | None:
    """CPU used within `spans` over their length, from looks of (time, CPU seconds so far), straight
    lines between them; None without a span.
    """
    used_s = length_s = 0.0
    for start, end in spans:
        used_s += _at(looks, end) - _at(looks, start)
        length_s += end - start
    return used_s / length_s if looks and length_s > 0 else None


def _at(looks: Sequence[tuple[float, float]], moment: float) -> float:
    """CPU seconds so far at a moment."""
    place = bisect(looks, (moment, float("inf")))
    if place in (0, len(looks)):
        return looks[min(place, len(looks) - 1)][1] if looks else 0.0
    (before, low), (after, high) = looks[place - 1], looks[place]
    return low + (high - low) * (moment - before) / (after - before)


def _by_group(run: StoredRun) -> list[list[Round]]:
    return [[item for item in run.rounds if item.group == group.name] for group in run.plan.groups]


def ratios(run: StoredRun, roles: Sequence[str] | None = None) -> dict[Cell, dict[str, Any]]:
    """(group, row, metric) -> the interval of the ratio to BN, and the log-ratio of every process,
    of all rows but BN, or those in `roles`.
    """
    confidence, estimates = confidence_of(run.plan.protocol.target_ci), {}
    for group, rounds in zip(run.plan.groups, _by_group(run), strict=True):
        for case, row in zip(group.cases, group.rows, strict=True):
            if case.role == BASELINE or (roles is not None and case.role not in roles):
                continue
            for metric in METRICS:
                replicates = pairs(rounds, group.baseline.key, case.key, metric)
                if any(replicates):
                    values = [replicate_value(item) for item in replicates if item]
                    estimates[group.name, row, metric] = {
                        **asdict(log_ratio(replicates, confidence)),
                        "role": case.role,
                        "log_ratios": values,
                    }
    return estimates


def floors(run: StoredRun) -> dict[Cell, dict[str, Any]]:
    """The A/A intervals: `ratios` of the control alone."""
    return ratios(run, (CONTROL,))


def machine(run: StoredRun) -> dict[str, Any]:
    """What a result file says of where and by which code it was measured."""
    environment = run.environment
    return {
        "label": environment["label"],
        "processor": environment["processor"]["model"],
        "cores": environment["cores"]["physical_allowed"],
        "kernel": environment["system"]["kernel"],
        "python": environment["python"]["version"],
        "torch": environment["packages"]["torch"],
        "code": environment["code"],
        "environment": environment_id(environment),
    }


def parser(doc: str | None, name: str) -> argparse.ArgumentParser:
    """The options that acceptance scripts share; `name` is the script's."""
    options_parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options_parser.add_argument("--suite", default="imagenet")
    options_parser.add_argument(
        "--results",
        type=Path,
        default=ROOT / "results" / name,
        help="folder for the runs; they are gone on with if they are there",
    )
    options_parser.add_argument(
        "--out", type=Path, help=f"result file (default: results/reference/{name}_<machine>.json)"
    )
    options_parser.add_argument("--no-load", action="store_true", help="without the competing load")
    return options_parser


def report(options: argparse.Namespace, name: str, run: StoredRun, data: dict[str, Any]) -> Path:
    """Write the result file of an acceptance script, with the machine that `run` was measured on;
    returns its path.
    """
    where = machine(run)
    path = options.out or ROOT / "results" / "reference" / f"{name}_{where['label']}.json"
    write(path, {**data, "load": not options.no_load, "machine": where})
    return path


def write(path: Path, data: dict[str, Any]) -> None:
    """A JSON file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(data, indent=1) + "\n")
    part.replace(path)
