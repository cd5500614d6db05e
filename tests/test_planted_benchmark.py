"""Detections of added delays in runs, beside the predicted rates."""

import json
import math
import random
from pathlib import Path

import pytest

from benchmarks import planted
from swbench.result import FORWARD
from swbench.selftest import plans
from swbench.selftest.measuring import RunIncomplete
from tests.support.delays import delayed_rounds

SHARES = (0.0, 0.01, 0.02)
ROOT = Path(__file__).parent.parent


def measured(size=lambda share: share, processes=256, noise=lambda replicate: 0.01):
    """A run of the delays, each of `size`, whose calls scatter by `noise`."""
    plan = plans.delays(processes, rounds=3, shares=SHARES, budget_s=None)
    rng = random.Random(5)
    return plan, delayed_rounds(
        plan,
        processes,
        lambda delay, replicate: (1 + size(delay)) * math.exp(rng.gauss(0, noise(replicate))),
        rounds=3,
    )


def forward(lines):
    return {(line.delay, line.processes): line for line in lines if line.metric == FORWARD}


def test_rates_of_honest_runs_are_the_predicted_ones():
    lines = forward(planted.detections(*measured()))
    assert set(lines) == {(share, size) for share in SHARES for size in planted.SIZES}
    for (delay, size), line in lines.items():
        assert len(line.effects) == 128 // size, "the odd-numbered processes, each once"
        low, high = line.rate_interval
        assert low <= line.predicted if delay == 0 else low <= line.predicted <= high
    assert 0.2 < lines[0.01, 8].predicted < 0.95, "neither certain nor hopeless"


def test_a_delay_that_is_read_too_small_is_detected_less_than_predicted():
    line = forward(planted.detections(*measured(size=lambda share: share / 3)))[0.02, 4]
    assert line.rate_interval[1] < line.predicted


def test_a_difference_between_equal_networks_in_either_direction_is_counted():
    for sign in (-1, 1):
        plan, rounds = measured()
        equal = plan.groups[0].cases[2].key
        for item in rounds:
            item.samples[equal]["forward_s"] *= 1 + sign * 0.1
        line = forward(planted.detections(plan, rounds))[0.0, 4]
        assert line.detected == len(line.effects)


def test_predictions_do_not_depend_on_the_processes_that_are_judged():
    calm, restless = (
        forward(planted.detections(*measured(noise=noise)))
        for noise in (lambda replicate: 0.01, lambda replicate: 0.01 if replicate % 2 == 0 else 0.1)
    )
    assert restless[0.02, 8].detected < calm[0.02, 8].detected
    assert restless[0.02, 8].predicted == pytest.approx(calm[0.02, 8].predicted, abs=0.1)


def test_the_table_and_the_stored_runs(tmp_path, monkeypatch, capsys):
    seen = []

    def fake(plan, target):
        seen.append((plan, target))
        return measured(processes=32)[1]

    monkeypatch.setattr(planted, "measure", fake)
    path = tmp_path / "planted.json"
    assert planted.main(["--processes", "32", "--out", str(path)]) == 0
    ((plan, target),) = seen
    assert (plan.protocol.replicates, plan.protocol.budget_s) == (32, None)
    assert target == plans.DELAY_TARGET
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3 * 2 * 3  # delays, passes, sizes
    assert lines[2].startswith("| 0 % | F | 4 | ")
    assert lines[2].endswith(" | at most 5% |")
    stored = json.loads(path.read_text())
    assert len(stored["runs"]) == 18
    assert stored["code"]


def test_wrong_options_and_a_failed_measurement_are_one_line(monkeypatch, capsys):
    for wrong in (["--processes", "7"], ["--delays", "0"], ["--out", "missing/planted.json"]):
        with pytest.raises(SystemExit) as ended:
            planted.main(wrong)
        assert ended.value.code == 2
        assert "error: --" in capsys.readouterr().err

    def fails(plan, target):
        raise RunIncomplete("BN, replicate 0: crashed")

    monkeypatch.setattr(planted, "measure", fails)
    assert planted.main([]) == 1
    assert capsys.readouterr().err == "planted: BN, replicate 0: crashed\n"


def test_the_page_shows_the_table_of_the_committed_runs():
    stored = json.loads((ROOT / "results/reference/planted_amd-epyc.json").read_text())["runs"]
    counted = [line.pop("detected") for line in stored]
    lines = [planted.Detections(**line) for line in stored]
    assert [line.detected for line in lines] == counted
    assert "\n".join(planted.table(lines)) in (ROOT / "docs/measuring.md").read_text()
    for line in lines:
        low, high = line.rate_interval
        assert low <= line.predicted <= high or line.delay == 0
