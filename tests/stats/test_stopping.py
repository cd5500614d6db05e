import pytest

from swbench.stats.intervals import log_ratio
from swbench.stats.stopping import Stopping, confidence_of


def steady(replicates, deviation=0.0):
    return [[(1.0, 1.1 * (1 + deviation * (k % 2)))] * 3 for k in range(replicates)]


@pytest.mark.parametrize("replicates", [4, 8, 16, 32])
def test_it_stops_at_a_look_once_every_row_is_narrow(replicates):
    decision = Stopping(0.01).decide({"bw": steady(replicates), "swa": steady(replicates, 0.001)})
    assert decision.stop
    assert "target reached" in decision.reason
    assert decision.reached == {"bw": True, "swa": True}


def test_one_wide_row_prevents_stopping():
    decision = Stopping(0.01).decide({"bw": steady(8), "swa": steady(8, 0.1)})
    assert not decision.stop
    assert decision.reached == {"bw": True, "swa": False}


@pytest.mark.parametrize("replicates", [1, 2, 3, 5, 7, 9, 31])
def test_it_never_stops_for_precision_between_looks(replicates):
    assert not Stopping(0.01).decide({"bw": steady(replicates)}).stop


def test_after_the_last_look_it_stops_and_names_the_rows_above_the_target():
    decision = Stopping(0.01).decide({"bw": steady(32, 0.5)})
    assert decision.stop
    assert decision.reached == {"bw": False}
    assert "most replicates" in decision.reason


def test_failed_rows_are_left_out_and_a_run_of_failures_ends():
    assert Stopping(0.01).decide({"bw": steady(4), "oom": [[], [], [], []]}).reached == {"bw": True}
    assert Stopping(0.01).decide({"oom": [[], []]}).stop


def test_the_error_probability_is_split_over_the_looks():
    stopping = Stopping(0.01)
    assert stopping.confidence == pytest.approx(1 - 0.05 / 4)
    assert confidence_of(0.01) == stopping.confidence
    assert confidence_of(None) == pytest.approx(0.95)
    rows = steady(4, 0.01)
    assert stopping.decide({"bw": rows}).intervals["bw"] == log_ratio(rows, stopping.confidence)


def test_the_looks():
    assert [k for k in range(40) if Stopping(0.01).due(k)] == [4, 8, 16, 32]


@pytest.mark.parametrize(
    "bad",
    [
        {"target_ci": 0.0},
        {"target_ci": 0.01, "looks": ()},
        {"target_ci": 0.01, "looks": (8, 4)},
        {"target_ci": 0.01, "looks": (1, 4)},
    ],
)
def test_invalid_targets_and_looks_are_refused(bad):
    with pytest.raises(ValueError, match="looks"):
        Stopping(**bad)


def test_a_replicate_that_failed_for_one_row_does_not_hide_the_look():
    decision = Stopping(0.01).decide({"bw": steady(4), "swa": [*steady(3), []]})
    assert decision.stop
    assert decision.reached == {"bw": True, "swa": True}
