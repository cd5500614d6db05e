"""Runs that are killed at random points of their parent and workers: no finished cell is lost or
doubled, and the cells equal those of an undisturbed run.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "torture.py"


def torture(points: int, seed: int, folder: Path, groups: int) -> dict:
    done = subprocess.run(
        [sys.executable, SCRIPT, str(points), str(seed), folder, str(groups)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


def check(report: dict, points: int) -> None:
    assert report["kills"] == points
    assert {
        name: report[name] for name in ("lost", "doubled", "missing", "altered", "half_written")
    } == dict.fromkeys(("lost", "doubled", "missing", "altered", "half_written"), 0)
    assert any(where.startswith("parent") for where in report["where"])
    assert any(where.startswith("worker") for where in report["where"])


def test_twenty_kills_lose_no_sealed_cell(tmp_path):
    check(torture(20, 1, tmp_path, groups=1), 20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_two_hundred_kills_lose_no_sealed_cell(tmp_path, capsys):
    points = int(os.environ.get("SWBENCH_TORTURE", "200"))
    report = torture(points, 2, tmp_path, groups=2)
    with capsys.disabled():
        sys.stdout.write(f"\n{json.dumps(report, indent=1)}\n")
    check(report, points)
