"""The supplement's tables as data."""

import pytest

from swbench.report.paper import paper_table


@pytest.mark.parametrize(("name", "rows"), [("table1", 4), ("table2", 7)])
def test_every_row_is_there_with_its_printed_digits(name, rows):
    table = paper_table(name)
    assert len(table.rows) == rows
    assert all(len(row.printed) == 5 for row in table.rows)


def test_figures_and_ratios():
    table = paper_table("table1")
    assert table.row("swa", 7).printed["cpu_f_s"] == "0.262"
    assert table.row("bn", 0).printed["cpu_f_s"] == "0.210"
    assert table.ratio("swa", 7, "gpu_f_s") == pytest.approx(0.365 / 0.007)
    assert table.ratio("swa", 14, "gpu_f_s") is None
    assert table.row("iw", 7) is None


def test_times_apply_at_the_papers_batch_and_size_only():
    table = paper_table("table2")
    assert table.applies((713, 713), "cpu", 1)
    assert table.applies((713, 713), "cuda", 16)
    assert not table.applies((713, 713), "cuda", 1)
    assert not table.applies((224, 224), "cpu", 1)
    assert not table.applies((713, 713), "cuda", None)


@pytest.mark.parametrize("name", ["table3", "../../pyproject", ""])
def test_another_name_reaches_no_file(name):
    assert paper_table(name) is None
