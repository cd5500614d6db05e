"""A sample run of every schema, as it was written then, loads. These files are never rewritten."""

from pathlib import Path

import pytest
import runs

from swbench import store
from swbench.report import exporters
from swbench.report.build import build_table
from swbench.store import folder

SAMPLES = sorted(Path(__file__).parent.glob("schema-*"))


def test_every_schema_has_a_sample_run():
    assert [path.name for path in SAMPLES] == [
        f"schema-{number}" for number in range(1, folder.SCHEMA + 1)
    ]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_an_old_run_loads_with_every_sample_and_prints(path):
    stored = store.load(path)
    assert (stored.complete, stored.command, stored.warnings) == (
        True,
        "python bench.py tiny.toml",
        (),
    )
    assert (stored.plan.suite, stored.plan.kind, stored.plan.groups, stored.plan.metrics) == (
        "tiny",
        "network",
        runs.plan().groups,
        ("time",),
    )
    protocol = stored.plan.protocol
    assert (protocol.iterations, protocol.replicates, protocol.warmup_s, protocol.warmup_cap_s) == (
        6,
        2,
        2.0,
        20.0,
    ), "its own, not today's defaults"
    assert stored.environment["torch"] == {"version": "2.13.0"}
    assert [(result.group, result.replicate) for result in stored.results[::3]] == [
        (f"cpu batch {batch}", number) for batch in (1, 2) for number in (0, 1)
    ]
    assert stored.rounds[0] == runs.one_round(
        stored.plan, attempt="00", schema=stored.header["schema"]
    )
    assert sum(bool(round_.blocks) for round_ in stored.rounds) == (
        15 if stored.header["schema"] > 1 else 0
    )
    for result in stored.results:
        position = [
            case.key
            for group in stored.plan.groups
            if group.name == result.group
            for case in group.cases
        ].index(result.case)
        assert result.samples("forward_s") == (0.1 + position,) * (3 * len(result.attempts))
        assert result.samples("error") == (float("inf"),)
    assert exporters.export(build_table(stored), "csv").count("\n") == 1 + 4


def test_newest_sample_has_the_format_that_is_written(tmp_path):
    plan = runs.plan()
    with store.RunWriter.create(tmp_path, plan, runs.ENVIRONMENT, "") as writer:
        for group in (0, 1):
            for number in (0, 1):
                if (group, number) == (1, 1):
                    runs.fill_paired(writer, plan, group, number)
                else:
                    runs.fill(writer, plan, group, number, attempt=f"{group}{number}")
    for name in ("rounds.jsonl", "cells.jsonl"):
        assert (writer.path / name).read_bytes() == (SAMPLES[-1] / name).read_bytes(), (
            "the format changed: raise the schema, and add a sample"
        )
