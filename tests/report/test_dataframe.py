"""A run as a data frame: a typed row for each sample, failures included."""

import pytest
from stored_runs import every_status

from swbench.report import dataframe as module
from swbench.report.dataframe import load_run
from swbench.report.long_samples import COLUMNS


@pytest.fixture
def frame(monkeypatch):
    run = every_status()
    monkeypatch.setattr("swbench.store.load", lambda path: run)
    return load_run("anywhere")


def test_one_row_a_sample(frame):
    run = every_status()
    assert list(frame.columns) == list(COLUMNS)
    timed = frame[frame.metric == "forward_s"]
    assert len(timed) == sum(
        "forward_s" in samples for round_ in run.rounds for samples in round_.samples.values()
    )
    round_ = run.rounds[3]
    key = round_.order[1]
    row = timed[
        (timed.replicate == round_.replicate)
        & (timed["round"] == round_.index)
        & (timed.case == key)
    ].iloc[0]
    assert row.value == round_.samples[key]["forward_s"]
    assert row.position == 1
    assert row.unit == "s"


def test_failures_and_marks_are_rows_too(frame):
    failed = frame[frame.status == "out_of_memory"]
    assert len(failed) == 3
    assert failed.value.isna().all()
    assert frame[frame.metric == "forward_s"].disturbed.sum() == 2 * 4
    assert set(frame[frame.metric == "flops_paper"].value.round(-6)) == {4.143e9, 4.185e9}


def test_the_public_name_is_this_one():
    import swbench

    assert swbench.load_run is module.load_run
