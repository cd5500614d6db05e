"""The heat map of a run's settings, in the plot and on the page: a line for each setting, a column
for each row.
"""

import pytest
from stored_runs import settings_run, table1

from swbench.case import BASELINE, EVAL, FOLDED
from swbench.report.build import build_table
from swbench.report.exporters import export
from swbench.report.heat_map import CONTROL, heat_maps
from swbench.report.paper import paper_table
from swbench.report.plots import TABLE


@pytest.fixture(scope="module")
def table():
    return build_table(settings_run())


def test_a_setting_is_a_line_and_a_row_a_column(table):
    forward, both, memory = heat_maps(table)
    assert [heat_map.title for heat_map in (forward, both, memory)] == [
        "CPU F",
        "CPU F+B",
        "CPU peak memory",
    ]
    assert forward.settings == (
        "float32, batch 1",
        "float32, channels_last, batch 8",
        "bfloat16, compile, batch 1",
        "float32, eval, batch 1",
    )
    assert both.settings == forward.settings[:3]
    rows = ("ResNet50-BW", "ResNet50-SW^a", "ResNet50-SW^b", "ResNet50-BN (folded)", CONTROL)
    assert forward.rows == rows
    assert memory.rows == rows[:3]
    cell = forward.cell("ResNet50-SW^a", "float32, batch 1")
    assert cell.value == pytest.approx(1.2, rel=0.05)
    assert cell.low < cell.value < cell.high
    assert forward.cell(CONTROL, "float32, eval, batch 1").value == pytest.approx(1, rel=0.05)
    assert forward.cell("ResNet50-BN (folded)", "float32, eval, batch 1").value < 0.9
    assert forward.cell("ResNet50-BN (folded)", "float32, batch 1").value is None
    assert memory.cell("ResNet50-SW^a", "float32, batch 1").value == pytest.approx(1.2)


def test_a_folded_bn_is_a_row_beside_bn_without_a_backward_pass(table):
    section = next(section for section in table.sections if ", eval;" in section.title)
    assert [row.label for row in section.rows][:2] == ["ResNet50-BN", "ResNet50-BN (folded)"]
    assert [row.cell("phase").value for row in section.rows][:3] == [EVAL, FOLDED, EVAL]
    assert section.rows[0].role == BASELINE
    for row in section.rows:
        assert row.cell("cpu_fb_s").status == row.cell("ratio_cpu_fb").status == "no backward pass"
        assert row.cell("cpu_f_s").value is not None


def test_the_papers_times_stand_only_beside_training():
    table = build_table(settings_run(), paper_table("table1"))
    with_paper = [
        any(row.cell("paper_cpu_f_s").value is not None for row in section.rows)
        for section in table.sections
    ]
    assert with_paper[0]
    assert not with_paper[[", eval;" in section.title for section in table.sections].index(True)]


def test_the_heat_map_is_drawn(table):
    fig = TABLE.load("settings")(table)
    titles = [axis.get_title(loc="left") for axis in fig.axes]
    assert titles[:3] == ["CPU F", "CPU F+B", "CPU peak memory"]
    lines = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert lines[0] == "float32, batch 1"
    shown = {text.get_text().partition("\n")[0] for text in fig.axes[0].texts}
    assert "–" in shown
    assert len(fig.axes[0].texts) == 4 * 5


def test_the_html_page_shows_the_heat_map_with_figures_in_its_cells(table):
    page = export([table], "html")
    assert "<h2>All settings</h2>" in page
    heat = page.partition("<h2>All settings</h2>")[2].partition("</section>")[0]
    assert heat.count('class="heat"') == 3
    cell = heat_maps(table)[0].cell("ResNet50-SW^a", "float32, batch 1")
    assert f">{cell.value:.3f}<br>" in heat
    assert 'class="h' in heat
    assert 'class="l' in heat
    assert "style=" not in heat


def test_markdown_shows_the_heat_map(table):
    lines = export([table], "markdown").splitlines()
    start = lines.index("**CPU F, ratio to the baseline of the same setting**")
    assert lines[start + 2].count("|") == len(heat_maps(table)[0].rows) + 2
    line = next(line for line in lines[start:] if line.startswith("| float32, eval, batch 1 |"))
    cell = heat_maps(table)[0].cell("ResNet50-SW^a", "float32, eval, batch 1")
    assert f"| {cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}] |" in line


def test_one_setting_has_no_heat_map():
    table = build_table(table1())
    assert heat_maps(table) == ()
    assert TABLE.load("settings")(table) is None
    assert "All settings" not in export([table], "html")
