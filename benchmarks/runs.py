"""A run of the command line as a user would start it, and what is asked of its results."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from swbench.case import BASELINE, CONTROL  # noqa: E402
from swbench.probes.marking import quietness  # noqa: E402
from swbench.report.overhead import timed_share  # noqa: E402
from swbench.report.samples import by_replicate  # noqa: E402
from swbench.report.statistics import Interval, confidence_of, log_ratio, noise_floor, pairs  # noqa: E402
from swbench.result import FORWARD, FORWARD_BACKWARD  # noqa: E402
from swbench.store import StoredRun, find, load  # noqa: E402

METRICS = (FORWARD, FORWARD_BACKWARD)


@dataclass(frozen=True)
class Finished:
    """A stored run, how long it took, the share of its time that was timed, and the CPU its parent process used (in cores)."""

    run: StoredRun
    wall_s: float
    timed_share: float
    parent_share: float
    quietness: str


def bench(arguments: list[str], results: Path) -> Finished:
    """`bench.py run` with `arguments`, to its end. Exits with the command's own status where it fails."""
    command = [sys.executable, str(ROOT / "bench.py"), "run", *arguments, "--metrics", "time", "--results", str(results)]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    first = last = _cpu_s(process.pid) or 0.0
    while process.poll() is None:
        time.sleep(0.5)
        last = _cpu_s(process.pid) or last
        if time.monotonic() - start < 5.0:
            first = last  # its own start-up: reading the suite, recording the environment
    wall_s = time.monotonic() - start
    if process.returncode:
        raise SystemExit(process.returncode)
    run = load(find(results, "latest"))
    groups = [[one for one in run.rounds if one.group == group.name] for group in run.plan.groups]
    disturbances = [[one.disturbance for one in replicate] for rounds in groups for replicate in by_replicate(rounds)]
    return Finished(run, wall_s, timed_share(run.rounds) or 0.0, (last - first) / max(wall_s - 5.0, 1.0), quietness(disturbances))


def _cpu_s(process: int) -> float | None:
    """CPU seconds of a process without its children; None once it is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else None


def ratios(run: StoredRun) -> dict[tuple[str, str, str], Interval]:
    """(group, row, metric) -> the ratio to BN, of everything but BN and its control."""
    confidence, found = confidence_of(run.plan.protocol.target_ci), {}
    for group in run.plan.groups:
        rounds = [one for one in run.rounds if one.group == group.name]
        for case, row in zip(group.cases, group.rows, strict=True):
            for metric in METRICS:
                replicates = pairs(rounds, group.baseline.key, case.key, metric) if case.role not in (BASELINE, CONTROL) else []
                if any(replicates):
                    found[group.name, row, metric] = log_ratio(replicates, confidence)
    return found


def floors(run: StoredRun) -> dict[tuple[str, str], Interval]:
    """(group, metric) -> the A/A interval."""
    found = {}
    for group in run.plan.groups:
        rounds = [one for one in run.rounds if one.group == group.name]
        for metric in METRICS:
            if (interval := noise_floor(rounds, group, metric)) is not None:
                found[group.name, metric] = interval
    return found
