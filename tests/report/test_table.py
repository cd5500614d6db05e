"""Contents of a table: the supplement's rows and columns, statuses, the paper's figures, several
solvers, FLOPs alone.
"""

import dataclasses
import subprocess
import sys

import pytest
from stored_runs import (
    every_status,
    flops,
    network_group,
    results_of,
    rounds_of,
    solver_group,
    stored,
    stored_solvers,
    table1,
)

from swbench.plan import Protocol
from swbench.report.build import build_table
from swbench.report.paper import PaperTable
from swbench.result import COUNTED


def text(table, row, column):
    return table.rows[row].cell(column).text(table.column(column))


def test_rows_and_columns_of_table_1():
    table = build_table(table1())
    assert [row.label for row in table.rows] == [
        "ResNet50-BN",
        "ResNet50-BW",
        "ResNet50-SW^a",
        "ResNet50-SW^b",
    ]
    assert [text(table, row, "gflops_paper") for row in range(4)] == [
        "4.143",
        "4.185",
        "4.185",
        "4.188",
    ]
    assert [text(table, row, "paper_cpu_f_s") for row in range(4)] == [
        "0.210",
        "0.259",
        "0.262",
        "0.268",
    ]
    assert [text(table, row, "paper_ratio_cpu_f") for row in range(4)] == [
        "–",
        "1.233",
        "1.248",
        "1.276",
    ]
    assert table.rows[1].cell("ratio_cpu_f").value == pytest.approx(1.2, rel=0.03)
    assert table.rows[1].cell("cpu_f_s").value == pytest.approx(0.24, rel=0.03)
    assert table.rows[1].cell("cpu_solver_chosen").value == "eigh"
    assert table.rows[0].cell("ratio_cpu_f").value == 1


def test_without_a_gpu_its_columns_show_that_and_the_papers_figures():
    table = build_table(table1())
    assert {
        text(table, row, f"{prefix}gpu_{p}{suffix}")
        for row in range(4)
        for prefix, suffix in (("", "_s"), ("ratio_", ""))
        for p in ("f", "fb")
    } == {"no GPU"}
    assert text(table, 1, "paper_gpu_f_s") == "0.353"
    assert text(table, 1, "gpu_status") == "no GPU"
    assert text(table, 1, "status") == "ok"
    assert any(warning.startswith("No GPU here") for warning in table.warnings)


def test_a_gpu_that_the_run_does_not_use_is_not_called_missing():
    table = build_table(table1(environment={"gpus": [{"name": "X"}]}))
    assert text(table, 1, "gpu_f_s") == "not run"
    assert not any("No GPU" in warning for warning in table.warnings)


def test_every_failure_prints_its_status_and_its_cause():
    table = build_table(every_status())
    assert [text(table, row, "cpu_f_s") for row in (2, 3, 4, 5)] == [
        "out of memory",
        "crashed",
        "timed out",
        "unsupported",
    ]
    assert [text(table, row, "ratio_cpu_fb") for row in (2, 3, 4, 5)] == [
        "out of memory",
        "crashed",
        "timed out",
        "unsupported",
    ]
    assert text(table, 2, "detail") == "needed 9 GiB of 8 <img src=x onerror=alert(3)>"
    assert text(table, 6, "status") == "crashed in 1 of 3"
    assert table.rows[6].cell("cpu_f_s").value is not None
    assert sum("crashed" in warning for warning in table.warnings) == 2


def test_a_failed_control_is_a_warning_though_it_has_no_row():
    group = network_group()
    run = stored(
        [group],
        results_of(group, statuses={(1, 2): "crashed"}, details={1: "killed by SIGKILL"}),
        rounds_of(group, [1, 1, 1.2, 1.25, 1.3]),
    )
    assert (
        "ResNet50-BN (control) (cpu batch 1 224x224): crashed in 1 of 3 replicates: killed "
        "by SIGKILL"
    ) in build_table(run).warnings


def test_warnings_come_gravest_first():
    table = build_table(every_status())
    starts = [warning.split()[0].rstrip(":") for warning in table.warnings]
    assert starts[:2] == ["QUICK", "INTERRUPTED"]
    assert "rounds.jsonl: torn last line" in table.warnings
    assert "UNSTABLE" in starts
    assert text(table, 1, "status") == "UNSTABLE"


def test_disturbed_rounds_are_counted_and_ratios_without_them_are_shown():
    table = build_table(every_status())
    assert any("2 of 15, 13.3 %" in note for note in table.notes)
    with_all, without = (
        table.rows[1].cell(name).value for name in ("ratio_cpu_f", "ratio_undisturbed_cpu_f")
    )
    assert without != with_all
    assert build_table(table1()).rows[1].cell("ratio_undisturbed_cpu_f").value is None


def test_disturbed_rounds_are_counted_by_worker():
    """Where rows are paired one by one, each pair has five rounds of a replicate, and at most one
    of these is marked.
    """
    group = network_group()
    pair, other = ([*group.cases[:2], variant] for variant in group.cases[2:4])
    rounds = [
        dataclasses.replace(
            round_, attempt=name, samples={case.key: round_.samples[case.key] for case in cases}
        )
        for name, cases, disturbed in (
            ("a0", pair, {(0, index) for index in range(5)}),
            ("b0", other, ()),
        )
        for round_ in rounds_of(
            group, [1, 1, 1.2, 1.2, 1.3], replicates=1, rounds=5, disturbed=disturbed
        )
    ]
    results = [
        dataclasses.replace(result, also=("b0",))
        if result.case in (pair[0].key, pair[1].key)
        else result
        for result in results_of(group, replicates=1)
    ]
    results[3] = dataclasses.replace(results[3], attempt="b0")
    table = build_table(stored([group], results, rounds))
    assert any("1 of 10, 10.0 %" in note for note in table.notes)
    assert any("5 of 10 rounds disturbed, 1 marked" in text for _, text in table.footer)


def test_the_noise_floor_is_noted_and_a_smaller_difference_is_none():
    group = network_group()
    run = stored([group], results_of(group), rounds_of(group, [1, 1, 1.0, 1.0, 2.0]))
    table = build_table(run)
    assert any(note.startswith("Noise floor") for note in table.notes)
    assert text(table, 1, "ratio_cpu_f").endswith("≈")
    assert text(table, 3, "verdict_cpu_f") == "slower"


def test_flops_alone_render_at_once():
    group = network_group()
    results = results_of(
        group,
        replicates=1,
        measurements={0: flops("bn"), 2: flops("bw"), 3: flops("swa"), 4: flops("swb")},
    )
    table = build_table(
        stored(
            [group], results, [], metrics=("flops",), protocol=Protocol(iterations=1, replicates=1)
        )
    )
    assert [text(table, row, "gflops_fvcore") for row in range(4)] == ["4.111"] * 4
    assert [panel.title.split()[0] for panel in table.panels] == ["GFLOPs"]
    assert text(table, 0, "cpu_f_s") == "not measured"
    assert not any("No GPU" in warning or "replicate" in warning for warning in table.warnings)


def test_rounds_of_an_unfinished_replicate_do_not_count():
    run = table1()
    more = rounds_of(run.plan.groups[0], [1, 1, 9, 9, 9], replicates=1, attempt="killed")
    spoilt = build_table(dataclasses.replace(run, rounds=run.rounds + tuple(more), complete=False))
    assert spoilt.rows[1].cell("cpu_f_s") == build_table(run).rows[1].cell("cpu_f_s")


def test_planned_cells_without_a_result_are_not_finished():
    run = table1()
    table = build_table(dataclasses.replace(run, results=(), rounds=(), complete=False))
    assert {text(table, row, "cpu_f_s") for row in range(4)} == {"not finished"}
    assert any("0 of 4 cells" in warning for warning in table.warnings)


def test_a_cell_that_is_counted_but_not_yet_timed_is_not_finished():
    group = network_group()
    counted = [
        dataclasses.replace(result, replicate=COUNTED)
        for result in results_of(group, replicates=1, measurements={0: flops("bn")})
    ]
    table = build_table(stored([group], counted, [], complete=False))
    assert (text(table, 0, "cpu_f_s"), text(table, 0, "gflops_paper")) == ("not finished", "4.143")


def test_several_solvers_give_a_row_each_and_the_baseline_one():
    rows = [
        ("swa", 7, "svd-loop", "ResNet50-SW^a [svd-loop]"),
        ("swa", 7, "eigh", "ResNet50-SW^a [eigh]"),
    ]
    group = network_group(rows=rows)
    table = build_table(stored([group], results_of(group), rounds_of(group, [1, 1, 2, 1.2])))
    assert [row.cell("solver").value for row in table.rows] == [None, "svd-loop", "eigh"]
    assert "solver" in table.panels[0].columns
    assert [text(table, row, "paper_cpu_f_s") for row in (1, 2)] == ["0.262", "0.262"]


def test_the_papers_times_stand_in_the_section_like_the_papers_only():
    cpu, single, many = (
        network_group(),
        network_group(name="cuda 1", device="cuda", threads=0),
        network_group(name="cuda 32", device="cuda", threads=0, batch=32),
    )
    rounds = [
        round_
        for group in (cpu, single, many)
        for round_ in rounds_of(group, [1, 1, 1.2, 1.3, 1.4])
    ]
    table = build_table(
        stored([cpu, single, many], [r for g in (cpu, single, many) for r in results_of(g)], rounds)
    )
    assert [section.title.count("batch") for section in table.sections] == [2, 1]
    first, second = (section.rows[1] for section in table.sections)
    assert first.cell("paper_gpu_f_s").printed == "0.353"
    assert second.cell("paper_gpu_f_s").value is None
    assert second.cell("paper_cpu_f_s").value is None
    assert second.cell("gpu_batch").value == 32
    assert second.cell("cpu_f_s").status == "not run"


def test_without_the_papers_file_the_table_goes_without_its_columns():
    table = build_table(table1(), paper=PaperTable("table1"))
    assert not any(name.startswith("paper") for panel in table.panels for name in panel.columns)
    assert table.rows[1].cell("paper_cpu_f_s").value is None


def test_table_2_cites_the_miou_for_sw_with_a_note():
    rows = [
        ("swa", 7, "auto", "SW^a 7"),
        ("swa", 14, "auto", "SW^a 14"),
        ("bw", 14, "auto", "BW 14"),
    ]
    group = network_group(rows=rows, model="resnet50-seg", image=(713, 713))
    table = build_table(
        stored([group], results_of(group), rounds_of(group, [1, 1, 1.1, 1.2, 1.3]), paper="table2")
    )
    assert [text(table, row, "cited_miou_cityscapes_percent") for row in range(4)] == [
        "–",
        "75.7",
        "76.2",
        "–",
    ]
    assert any("cited" in note for note in table.notes)


def test_a_failed_baseline_leaves_seconds_with_the_reason_for_no_ratio():
    group = network_group()
    run = stored(
        [group],
        results_of(group, statuses={0: "crashed", 1: "crashed"}),
        rounds_of(group, [None, None, 1.2, 1.3, 1.4]),
    )
    table = build_table(run)
    assert table.rows[1].cell("cpu_f_s").value is not None
    assert text(table, 1, "ratio_cpu_f") == "baseline failed"


def test_a_row_that_crashed_its_worker_does_not_fail_the_baseline_that_was_repeated():
    group = network_group()
    rounds = rounds_of(group, [None, None, 1.2, None, None], rounds=1) + rounds_of(
        group, [1, 1, None, 1.3, 1.4], attempt="b"
    )
    results = [
        *results_of(group, statuses={2: "crashed"})[2::5],
        *(result for result in results_of(group, attempt="b") if result.case != group.cases[2].key),
    ]
    table = build_table(stored([group], results, rounds))
    assert text(table, 1, "ratio_cpu_f") == "crashed"
    assert table.rows[2].cell("ratio_cpu_f").value is not None


def test_solvers_by_size_with_the_best_exact_one_marked():
    table = build_table(stored_solvers())
    assert [section.title for section in table.sections] == [
        "B = 72, G = 16, float32, cpu; 1 thread",
        "B = 1, G = 16, float32, cpu; 1 thread",
    ]
    assert [row.label for row in table.rows if row.mark] == ["eigh", "jacobi"]
    newton5 = table.sections[0].rows[3]
    assert newton5.cell("exact").value == "no: five uncoupled Newton steps"
    assert (
        newton5.cell("fb_per_matrix_s").value
        < table.sections[0].rows[0].cell("fb_per_matrix_s").value
    )
    assert any(
        "newton5" in note and "not finite for 25 %" in note for note in table.sections[0].notes
    )
    assert (
        table.sections[0].rows[0].cell("f_per_matrix_s").value
        == table.sections[0].rows[0].cell("f_s").value / 72
    )
    assert text(table, 2, "w_error_worst") == "crashed"


def test_a_solver_that_breaks_its_promise_is_not_the_best():
    group = solver_group(("eigh", "polar"))
    accurate, inaccurate = (
        [("w_error_worst", "1", (error,)), ("promised_error", "1", (1e-3,))]
        for error in (1e-4, 1e-2)
    )
    results = results_of(group, measurements={0: accurate, 2: inaccurate}, chosen={"exact": "yes"})
    table = build_table(stored([group], results, rounds_of(group, [1, 1, 0.5]), kind="solvers"))
    assert [row.label for row in table.rows if row.mark] == ["eigh"]
    assert "W off by 0.010 where 1.0e-3 is allowed" in table.sections[0].notes[0]


def test_rendering_imports_neither_torch_nor_pandas_nor_matplotlib():
    script = (
        "import sys; sys.path.insert(0, 'tests/report')\n"
        "from stored_runs import table1\n"
        "from swbench.report.build import build_table\n"
        "from swbench.report.exporters import TABLE, export\n"
        "table = build_table(table1())\n"
        "[export(table, name) for name in TABLE.names()]\n"
        "print(sorted({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_run_that_its_budget_ended_has_a_warning():
    table = build_table(
        table1(header={"reason": "budget spent"}, protocol=Protocol(iterations=20, replicates=5))
    )
    assert any(
        "BUDGET: the time was up after 3 replicates of 5" in warning for warning in table.warnings
    )
    assert any(
        "asked for: 20 rounds in 5 replicates; done: 3 replicates" in note for note in table.notes
    )
    assert not any("BUDGET" in warning for warning in build_table(table1()).warnings)


def test_with_a_target_the_budget_warning_names_the_limit_of_stopping():
    protocol = Protocol(iterations=20, replicates=2, target_ci=0.01)
    table = build_table(table1(header={"reason": "budget spent"}, protocol=protocol))
    assert any(
        "BUDGET: the time was up after 3 replicates of at most 32" in warning
        for warning in table.warnings
    )


def test_the_command_that_repeats_a_run_sets_its_allocators_variables():
    tuned = {
        "variables": {"MALLOC_MMAP_MAX_": "0", "LD_PRELOAD": "/opt/a b.so", "OMP_NUM_THREADS": "2"}
    }
    run = dataclasses.replace(table1(), environment=tuned)
    assert dict(build_table(run).footer)["Reproduce"] == (
        "LD_PRELOAD='/opt/a b.so' MALLOC_MMAP_MAX_=0 python bench.py run imagenet"
    )
    assert dict(build_table(dataclasses.replace(run, command="")).footer).get("Reproduce") is None


def test_where_the_interval_holds_1_and_the_papers_ratio_neither_is_resolved():
    group = network_group()
    rounds = rounds_of(group, [1, 1, 1.1, 1.0, 2.0], noise=0.3)
    table = build_table(stored([group], results_of(group), rounds))
    bw = table.rows[1].cell("ratio_cpu_f")
    assert bw.low < 1 < table.rows[1].cell("paper_ratio_cpu_f").value < bw.high
    assert text(table, 1, "ratio_cpu_f").endswith("] not resolved")
    assert text(table, 1, "verdict_cpu_f") == "not resolved"
    assert any("holds both 1 and the paper's ratio" in note for note in table.notes)
