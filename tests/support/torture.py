"""Kills runs at random points and resumes them: `python tests/support/torture.py POINTS SEED FOLDER
GROUPS` prints a report as JSON.

It is a process of its own without torch, so that each run is a fork. In a trial a run is killed up
to three times and then left alone.
"""

import ctypes
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import fakes  # noqa: E402

from swbench import store  # noqa: E402
from swbench.result import CRASHED, OK  # noqa: E402
from swbench.run import SubprocessExecutor, run  # noqa: E402
from swbench.worker import process  # noqa: E402

CALLS = ("write", "fsync", "replace", "ftruncate", "read", "mkdir")
STAGES = ("import", "build", "warm-up", "region", "finish", "message")
KILLS_PER_TRIAL = 3
ORPHAN_TIMEOUT_S = 20.0
TARGETS = {"network": "torture_workload:TortureWorkload"}
PLAN = fakes.plan("good", groups=int(sys.argv[4]), replicates=2, iterations=4)
CELLS = {(case.key, number) for group in PLAN.groups for case in group.cases for number in range(2)}


def run_process(results: Path, counts: Path, point: tuple[str, str, int, bool]) -> None:
    """Start or resume the run in this process, which is killed at `point` (victim, what, count,
    half).
    """
    victim, what, at, half = point
    calls_left = {"parent": at}

    def counted(name, function):
        def call(*arguments, **options):
            with open(counts / f"parent-{name}", "ab", buffering=0) as file:
                original(file.fileno(), b".")
            if victim == "parent" and name == what:
                calls_left["parent"] -= 1
                if calls_left["parent"] == 0:
                    if name == "write" and half:
                        function(arguments[0], arguments[1][: len(arguments[1]) // 2])
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    original = os.write
    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    process.subprocess.Popen = counted("Popen", process.subprocess.Popen)
    environ = {"TORTURE_COUNTS": str(counts)}
    if what in STAGES:
        environ["TORTURE"] = f"{what} {at} {'worker' if victim == 'worker' else 'parent'}"
    runs = store.runs(results)
    if runs and runs[-1].complete:
        return  # killed between its last rename and its end: the command would print it
    writer = (
        store.resume(runs[-1].path, PLAN, {})
        if runs
        else store.RunWriter.create(results, PLAN, {}, "torture")
    )
    run(
        PLAN,
        writer,
        SubprocessExecutor(writer.path / "logs", paths=[str(HERE)], environ=environ),
        workloads=TARGETS,
    )


def fork(*arguments) -> int:
    child = os.fork()
    if child:
        return child
    try:
        run_process(*arguments)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def wait_for_end(child: int, kill_after_s: float | None, victim: str) -> int:
    """Wait for the process `child` to end, and kill it or its worker after `kill_after_s` seconds.
    Returns its exit status once none of its processes is left.
    """
    handle = os.pidfd_open(child)
    if kill_after_s is not None and not _ready(handle, kill_after_s):
        targets = (
            [child]
            if victim == "parent"
            else [
                int(pid) for pid in Path(f"/proc/{child}/task/{child}/children").read_text().split()
            ]
        )
        for pid in targets:
            os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(handle)
    return _wait_for_orphans(os.waitstatus_to_exitcode(status))


def _wait_for_orphans(code: int) -> int:
    """`code`, once there is no process left: this one inherits orphans, and workers must follow a
    killed parent.
    """
    signal.signal(signal.SIGALRM, _fail_on_orphan)
    signal.setitimer(signal.ITIMER_REAL, ORPHAN_TIMEOUT_S)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return code
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _fail_on_orphan(number, frame):
    raise AssertionError("a worker outlived its parent")


def _ready(handle: int, timeout_s: float) -> bool:
    import select

    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


class Torture:
    def __init__(self, seed: int, folder: Path) -> None:
        self.choice, self.folder = random.Random(seed), folder
        self.kills: Counter[str] = Counter()
        self.counters: Counter[str] = Counter(
            lost=0, doubled=0, missing=0, altered=0, half_written=0, crashed_cells=0
        )
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        results, counts = self._place("quiet")
        started = time.monotonic()
        assert wait_for_end(fork(results, counts, ("nobody", "", 0, False)), None, "") == 0
        self.quiet_s = time.monotonic() - started
        self.counts = {path.name: path.stat().st_size for path in counts.iterdir()}
        assert self._read(results, {}, 0)[1].complete

    def _place(self, name: str) -> tuple[Path, Path]:
        results, counts = self.folder / name / "results", self.folder / name / "counts"
        counts.mkdir(parents=True)
        return results, counts

    def _point(self) -> tuple[tuple[str, str, int, bool], float | None]:
        """A random point at which a process is killed: every stage is equally likely, and every
        moment of it.
        """
        kinds = [("parent", call) for call in (*CALLS, "Popen")] + [
            (victim, stage) for stage in STAGES for victim in ("worker", "both")
        ]
        victim, what = self.choice.choice([*kinds, ("parent", "any time"), ("worker", "any time")])
        if what == "any time":
            return (victim, what, 0, False), self.choice.uniform(0, self.quiet_s)
        of = self.counts.get(f"parent-{what}" if victim == "parent" else what, 1)
        return (victim, what, self.choice.randint(1, of), self.choice.random() < 0.5), None

    def trial(self, number: int, max_kills: int) -> int:
        """Kill a run up to `max_kills` times, then let it end; returns the number of kills."""
        results, counts = self._place(str(number))
        previous, kills, worker_kills = {}, 0, 0
        while True:
            point, after_s = (
                self._point() if kills < max_kills else (("nobody", "", 0, False), None)
            )
            for path in counts.iterdir():
                path.unlink()
            code = wait_for_end(fork(results, counts, point), after_s, point[0])
            assert code in (0, -signal.SIGKILL), f"trial {number} ended with {code} at {point}"
            crashed = self._crashed(results)
            if code or crashed > worker_kills:
                kills += 1
                worker_kills = crashed
                self.kills[f"{point[0]} at {point[1]}"] += 1
            previous, stored = self._read(results, previous, worker_kills)
            if code == 0:
                break
        self.counters["missing"] += len(CELLS - set(previous)) + (not stored.complete)
        self.counters["crashed_cells"] += sum(result.status != OK for result in previous.values())
        shutil.rmtree(results.parent)
        return kills

    def _crashed(self, results: Path) -> int:
        """How many workers of a run were killed, by what its cells say."""
        return len(
            {
                result.attempt
                for summary in store.runs(results)
                for result in store.load(summary.path).results
                if result.status == CRASHED
            }
        )

    def _read(self, results: Path, previous: dict, worker_kills: int):
        runs = store.runs(results)
        if not runs:
            return previous, None
        assert len(runs) == 1
        stored = store.load(runs[0].path)
        current = {(result.case, result.replicate): result for result in stored.results}
        self.counters["doubled"] += len(stored.results) - len(current)
        self.counters["lost"] += len(set(previous) - set(current))
        self.counters["altered"] += sum(
            current[cell] != result for cell, result in previous.items() if cell in current
        )
        for result in stored.results:
            complete = result.status == OK and len(result.samples("forward_s")) == 2
            assert complete or (worker_kills and "SIGKILL" in result.detail), result
        for name in ("run.json", "environment.json"):
            self.counters["half_written"] += not (runs[0].path / name).read_text().endswith("}\n")
        return current, stored


def main(points: int, seed: int, folder: Path) -> None:
    started, torture, kills, trials = time.monotonic(), Torture(seed, folder), 0, 0
    while kills < points:
        kills += torture.trial(trials, min(KILLS_PER_TRIAL, points - kills))
        trials += 1
    report = {
        "seed": seed,
        "kills": kills,
        "lives": trials,
        **torture.counters,
        "seconds": round(time.monotonic() - started, 1),
    }
    sys.stdout.write(json.dumps({**report, "where": dict(sorted(torture.kills.items()))}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
