"""The comparison of two protocols in live runs: half-widths, and how honest intervals are."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import live_pairs
from swbench.stats.intervals import log_ratio

REFERENCE = Path(__file__).parent.parent / "results" / "reference"


def intervals(deviation, processes=6, runs=400):
    """Of runs whose processes scatter by `deviation`, one round each."""
    rng = np.random.default_rng(3)
    return [
        log_ratio([[(1.0, float(np.exp(value)))] for value in rng.normal(0, deviation, processes)])
        for _ in range(runs)
    ]


def test_honest_intervals_claim_what_the_middles_scatter_by():
    result = live_pairs.widths(intervals(0.02))
    assert result.scatter == pytest.approx(0.02 / np.sqrt(6), rel=0.08)
    assert result.claimed == pytest.approx(result.scatter, rel=0.08)
    assert result.half_width == pytest.approx(
        2.571 * 0.95 * 0.02 / np.sqrt(6), rel=0.03
    )  # E(s) / σ


def test_middles_that_move_between_runs_exceed_the_claim():
    shifted = [
        log_ratio([[(1.0, 1.1**sign)] for _ in range(3)] + [[(1.0, 1.1**sign * 1.001)]])
        for sign in (-1, 1)
    ]
    result = live_pairs.widths(shifted)
    assert result.scatter > 100 * result.claimed


def test_table_of_stored_runs(capsys):
    first, last = (
        str(REFERENCE / f"{moment}_imagenet_amd-epyc")
        for moment in ("20261122T133437Z", "20261129T064515Z")
    )
    # the same run twice: middles do not scatter
    assert live_pairs.main(["--before", first, first, "--after", last, last]) == 0
    lines = capsys.readouterr().out.splitlines()
    (control,) = (line for line in lines if line.startswith("| control | F |"))
    _, _, before, after, ratio, scatter, claimed, *_ = control.split(" | ")
    assert float(ratio) == pytest.approx(
        float(after.strip("±%")) / float(before.strip("±%")), abs=0.01
    )
    assert scatter == "0.00%"
    assert float(claimed.strip("%")) == pytest.approx(float(before.strip("±%")) / 2.776, abs=0.01)
    assert lines[-2].startswith("after: 2 runs of ")
    assert "ResNet50-SW^a F+B 1.001 ±0.0%" in lines[-1]  # as docs/results.md has it


def test_a_folder_that_is_no_run_is_one_line(tmp_path, capsys):
    assert live_pairs.main(["--before", str(tmp_path), "--after", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("live_pairs: ")


STOPPED = "20261129T015807Z_price_amd-epyc"
"""A run that was interrupted."""


@pytest.mark.parametrize(
    "runs",
    [["20261122T133437Z_imagenet_amd-epyc"], [STOPPED, STOPPED]],
    ids=["one run", "not complete"],
)
def test_what_cannot_be_compared_is_refused_in_one_line(runs, capsys):
    runs = [str(REFERENCE / name) for name in runs]
    assert live_pairs.main(["--before", *runs, "--after", *runs]) == 2
    assert capsys.readouterr().err == "live_pairs: needs two runs or more a side, each complete\n"
