"""A run is killed at random points of its life and resumed: no finished cell is lost, none is there twice, the cells are those of a quiet run."""

import os
import random
import subprocess
import sys
from pathlib import Path

import fakes
import pytest

from swbench import store
from swbench.result import OK

HERE = str(Path(__file__).parent)

SCRIPT = """
import os, signal, sys
sys.path.insert(0, {here!r})
import fakes
from swbench import store
from swbench.engine import SubprocessExecutor, process, run
from swbench.store import files, lines

left, half = {point}, {half}

def counted(function, writes=False):
    def call(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            if writes and half:
                function(arguments[0], arguments[1][: len(arguments[1]) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

os.write, os.fsync, os.replace = counted(os.write, writes=True), counted(os.fsync), counted(os.replace)
os.ftruncate, os.read, os.mkdir = counted(os.ftruncate), counted(os.read), counted(os.mkdir)
process.subprocess.Popen = counted(process.subprocess.Popen)
plan = fakes.plan("good", groups=2, replicates=2, iterations=4)
found = store.runs({results!r})
writer = store.resume(found[-1].path, plan, {{}}) if found else store.RunWriter.create({results!r}, plan, {{}}, "torture")
run(plan, writer, SubprocessExecutor(writer.path / "logs", paths=[{here!r}]), workloads=fakes.TARGETS)
os.kill(os.getpid(), signal.SIGTERM)  # so that only a death by SIGKILL is one of ours
"""


def torture(results: Path, seed: int) -> int:
    """Kill and resume until the run is complete; returns how often it was killed."""
    choice = random.Random(seed)
    kills, kept = 0, {}
    plan = fakes.plan("good", groups=2, replicates=2, iterations=4)
    for _ in range(6):
        point = choice.randrange(1, 90) if kills < 3 else 0
        code = SCRIPT.format(here=HERE, point=point, half=choice.random() < 0.5, results=str(results))
        ended = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
        assert ended.returncode in (-9, -15), ended.stderr
        runs = store.runs(results)
        if runs:
            assert len(runs) == 1
            found = store.load(runs[-1].path)
            now = {(one.case, one.replicate): one for one in found.results}
            assert len(now) == len(found.results), "no cell is there twice"
            assert all(now[cell] == result for cell, result in kept.items()), "no finished cell is lost or altered"
            kept = now
        if ended.returncode == -15:
            break
        kills += 1
    assert found.complete
    assert set(kept) == {(case.key, number) for group in plan.groups for case in group.cases for number in range(2)}
    assert all(one.status == OK and len(one.samples("forward_s")) == 2 for one in kept.values())
    assert not list(found.path.glob(".*.tmp")) or kills
    return kills


@pytest.mark.parametrize("seed", range(7))
def test_twenty_kills_lose_nothing(tmp_path, seed):
    assert torture(tmp_path, seed) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 100 + int(os.environ.get("SWBENCH_TORTURES", "70"))))
def test_two_hundred_kills_lose_nothing(tmp_path, seed):
    assert torture(tmp_path, seed) >= 1
