"""Makes `runs` importable from the tests of this folder, and has a run on the disk."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import runs

from swbench import store


@pytest.fixture
def written(tmp_path):
    """A run of two groups with one of four replicates sealed and one round of another."""
    plan = runs.plan()
    writer = store.RunWriter.create(
        tmp_path, plan, runs.ENVIRONMENT, "run tiny", suite_text="x = 1", options={"threads": 1}
    )
    runs.fill(writer, plan)
    writer.add_round(runs.one_round(plan, group=1, attempt="b"))
    writer.close()
    return writer.path
