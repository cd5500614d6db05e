"""Kill runs at random points and resume them: `python tests/support/torture.py POINTS SEED FOLDER
GROUPS` writes what came of it as JSON.

A process of its own without torch, so that each run is a fork: a life is a run that is killed up to
three times and then left alone.
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
KILLS_A_LIFE = 3
ORPHAN_S = 20.0
TARGETS = {"network": "tortured:Tortured"}
PLAN = fakes.plan("good", groups=int(sys.argv[4]), replicates=2, iterations=4)
CELLS = {(case.key, number) for group in PLAN.groups for case in group.cases for number in range(2)}


def live(results: Path, counts: Path, point: tuple[str, str, int, bool]) -> None:
    """One process's life: begin or resume the run, and die at `point` (victim, what, count,
    half).
    """
    victim, what, at, half = point
    left = {"parent": at}

    def counted(name, function):
        def call(*arguments, **options):
            with open(counts / f"parent-{name}", "ab", buffering=0) as file:
                original(file.fileno(), b".")
            if victim == "parent" and name == what:
                left["parent"] -= 1
                if left["parent"] == 0:
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
        live(*arguments)
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
        os._exit(3)
    os._exit(0)


def ended(child: int, kill_after_s: float | None, victim: str) -> int:
    """Wait for a life to end, killing it or its worker after so long; its status, once no process
    of it is left.
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
    return _last(os.waitstatus_to_exitcode(status))


def _last(code: int) -> int:
    """`code`, once there is no process left: this one inherits orphans, and workers must follow a
    killed parent.
    """
    signal.signal(signal.SIGALRM, _too_late)
    signal.setitimer(signal.ITIMER_REAL, ORPHAN_S)
    try:
        while True:
            os.wait()
    except ChildProcessError:
        return code
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _too_late(number, frame):
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
        self.found: Counter[str] = Counter(
            lost=0, doubled=0, missing=0, altered=0, half_written=0, crashed_cells=0
        )
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
        results, counts = self._place("quiet")
        began = time.monotonic()
        assert ended(fork(results, counts, ("nobody", "", 0, False)), None, "") == 0
        self.quiet_s = time.monotonic() - began
        self.counts = {path.name: path.stat().st_size for path in counts.iterdir()}
        assert self._read(results, {}, 0)[1].complete

    def _place(self, name: str) -> tuple[Path, Path]:
        results, counts = self.folder / name / "results", self.folder / name / "counts"
        counts.mkdir(parents=True)
        return results, counts

    def _point(self) -> tuple[tuple[str, str, int, bool], float | None]:
        """A point where somebody dies: every stage is as likely as any other, and every moment of
        it.
        """
        kinds = [("parent", call) for call in (*CALLS, "Popen")] + [
            (victim, stage) for stage in STAGES for victim in ("worker", "both")
        ]
        victim, what = self.choice.choice([*kinds, ("parent", "any time"), ("worker", "any time")])
        if what == "any time":
            return (victim, what, 0, False), self.choice.uniform(0, self.quiet_s)
        of = self.counts.get(f"parent-{what}" if victim == "parent" else what, 1)
        return (victim, what, self.choice.randint(1, of), self.choice.random() < 0.5), None

    def life(self, number: int, kills: int) -> int:
        """Kill a run up to `kills` times, then let it end; returns how often it was killed."""
        results, counts = self._place(str(number))
        kept, died, worker_kills = {}, 0, 0
        while True:
            point, after_s = self._point() if died < kills else (("nobody", "", 0, False), None)
            for path in counts.iterdir():
                path.unlink()
            code = ended(fork(results, counts, point), after_s, point[0])
            assert code in (0, -signal.SIGKILL), f"life {number} ended with {code} at {point}"
            crashed = self._crashed(results)
            if code or crashed > worker_kills:
                died += 1
                worker_kills = crashed
                self.kills[f"{point[0]} at {point[1]}"] += 1
            kept, stored = self._read(results, kept, worker_kills)
            if code == 0:
                break
        self.found["missing"] += len(CELLS - set(kept)) + (not stored.complete)
        self.found["crashed_cells"] += sum(result.status != OK for result in kept.values())
        shutil.rmtree(results.parent)
        return died

    def _crashed(self, results: Path) -> int:
        """How many workers of a run were killed, by what its cells say."""
        return len(
            {
                result.attempt
                for found in store.runs(results)
                for result in store.load(found.path).results
                if result.status == CRASHED
            }
        )

    def _read(self, results: Path, kept: dict, worker_kills: int):
        runs = store.runs(results)
        if not runs:
            return kept, None
        assert len(runs) == 1
        stored = store.load(runs[0].path)
        now = {(result.case, result.replicate): result for result in stored.results}
        self.found["doubled"] += len(stored.results) - len(now)
        self.found["lost"] += len(set(kept) - set(now))
        self.found["altered"] += sum(
            now[cell] != result for cell, result in kept.items() if cell in now
        )
        for result in stored.results:
            whole = result.status == OK and len(result.samples("forward_s")) == 2
            assert whole or (worker_kills and "SIGKILL" in result.detail), result
        for name in ("run.json", "environment.json"):
            self.found["half_written"] += not (runs[0].path / name).read_text().endswith("}\n")
        return now, stored


def main(points: int, seed: int, folder: Path) -> None:
    began, torture, died, lives = time.monotonic(), Torture(seed, folder), 0, 0
    while died < points:
        died += torture.life(lives, min(KILLS_A_LIFE, points - died))
        lives += 1
    report = {
        "seed": seed,
        "kills": died,
        "lives": lives,
        **torture.found,
        "seconds": round(time.monotonic() - began, 1),
    }
    sys.stdout.write(json.dumps({**report, "where": dict(sorted(torture.kills.items()))}) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
