"""`predict` says before any number what it is worth."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

import stored_on_disk
from stored_runs import table1
from test_scaling import spread


def test_a_fit_that_holds_is_printed_with_its_error_beside_every_number(ask, tmp_path):
    stored_on_disk.store(tmp_path / "results", spread(exposed_s=5e-3))
    code, out, err = ask("predict", "latest")
    assert (code, err) == (0, "")
    assert out.startswith("PREDICTION, not a measurement")
    assert "!" not in out
    assert out.count("±0%") == 6
    assert "a call cannot be told from its steps" in out


def test_one_that_does_not_hold_where_it_was_measured_says_so_first(ask, tmp_path):
    stored_on_disk.store(tmp_path / "results", spread(exposed_s=0.5))
    code, out, _ = ask("predict", "latest")
    assert code == 0
    assert "! DOES NOT HOLD HERE: 1 of 1 rows" in out.splitlines()[1]


def test_a_run_on_one_process_is_refused(ask, tmp_path):
    stored_on_disk.store(tmp_path / "results", table1())
    code, out, err = ask("predict", "latest")
    assert (code, out) == (2, "")
    assert "--nproc 2" in err
