"""Comparison of runs: matching by key, intervals that hold the truth, verdicts, refusals and the
regression gate.
"""

import dataclasses
import random
import statistics

import pytest
from stored_runs import every_status, network_group, results_of, rounds_of, stored, table1

from swbench.errors import OptionError, UnlikeEnvironments
from swbench.report.compare import compare, welch
from swbench.report.compare_paper import compare_paper
from swbench.report.exporters import TABLE, export
from swbench.report.table_comparison import comparison_table


def another(factors, seed=7, **keywords):
    run = table1()
    group = run.plan.groups[0]
    return dataclasses.replace(
        run, id="B", rounds=tuple(rounds_of(group, factors, seed=seed, **keywords))
    )


def by_label(comparison, metric="forward_s"):
    return {row.label: row for row in comparison.rows if row.metric == metric}


def test_a_slower_row_is_detected_though_the_machine_was_slower_for_all():
    rows_by_label = by_label(compare(table1(), another([2, 2, 2.64, 2.5, 2.6]), differences=()))
    assert rows_by_label["ResNet50-BW"].verdict == "slower"
    assert rows_by_label["ResNet50-BW"].ratio.estimate == pytest.approx(1.1, rel=0.03)
    assert rows_by_label["ResNet50-BW"].ratio.holds(1.1)
    assert rows_by_label["ResNet50-SW^a"].verdict == "no difference seen"
    assert rows_by_label["ResNet50-BN"].basis == "seconds"
    assert rows_by_label["ResNet50-BN"].ratio.estimate == pytest.approx(2, rel=0.03)
    assert not rows_by_label["ResNet50-BN"].gated


def test_the_same_run_shows_no_difference():
    rows = compare(table1(), table1(), differences=()).rows
    assert {row.verdict for row in rows} == {"no difference seen"}
    assert {row.ratio.estimate for row in rows} == {1.0}


def test_seconds_on_request():
    rows_by_label = by_label(
        compare(table1(), another([2, 2, 2.4, 2.5, 2.6]), differences=(), basis="seconds")
    )
    assert {row.verdict for row in rows_by_label.values()} == {"slower"}
    assert all(row.gated for row in rows_by_label.values())


def test_only_rows_above_the_threshold_are_regressions():
    run = another([1, 1, 1.32, 1.25, 1.3])
    assert {
        row.label for row in compare(table1(), run, differences=(), threshold=0.05).regressions
    } == {"ResNet50-BW"}
    assert compare(table1(), run, differences=(), threshold=0.2).regressions == ()
    assert compare(run, table1(), differences=(), threshold=0.05).regressions == ()


def test_unlike_environments_are_refused_and_allowed_for_ratios_alone():
    with pytest.raises(UnlikeEnvironments, match=r"CPU: a / b.*--cross-machine"):
        compare(table1(), another([1, 1, 1.2, 1.25, 1.3]), differences=["CPU: a / b"])
    rows_by_label = by_label(
        compare(
            table1(),
            another([1, 1, 1.2, 1.25, 1.3]),
            differences=["CPU: a / b"],
            cross_machine=True,
        )
    )
    assert rows_by_label["ResNet50-BN"].verdict == "not comparable"
    assert rows_by_label["ResNet50-BW"].verdict == "no difference seen"


def test_cells_that_one_run_lacks_or_failed_are_not_comparable():
    run = table1()
    other = network_group(rows=[("bw", 7, "auto", "ResNet50-BW"), ("iw", 7, "auto", "ResNet50-IW")])
    second = stored(
        [other],
        results_of(other, statuses={2: "out_of_memory"}),
        rounds_of(other, [1, 1, None, 1.1]),
    )
    rows_by_label = by_label(compare(run, second, differences=()))
    assert rows_by_label["ResNet50-SW^a"].reason.startswith("not in")
    assert rows_by_label["ResNet50-IW"].reason.startswith("not in")
    assert rows_by_label["ResNet50-BW"].reason.startswith("out of memory in")
    assert {row.verdict for label, row in rows_by_label.items() if label != "ResNet50-BN"} == {
        "not comparable"
    }


def test_one_replicate_gives_no_verdict():
    run = another([1, 1, 1.2, 1.25, 1.3], replicates=1)
    rows_by_label = by_label(compare(table1(), run, differences=()))
    assert rows_by_label["ResNet50-BW"].verdict == "too few replicates"
    assert rows_by_label["ResNet50-BW"].ratio.low is None


def test_welchs_interval_covers_the_truth():
    rng = random.Random(3)
    inside = 0
    for _ in range(400):
        a, b = [rng.gauss(0, 0.02) for _ in range(5)], [rng.gauss(0.05, 0.06) for _ in range(4)]
        interval = welch(a, b, 0.95)
        inside += interval.low <= 2.718281828**0.05 <= interval.high
    assert 0.925 <= inside / 400 <= 0.985


def test_welch_agrees_with_scipy():
    from scipy import stats

    a, b = [0.01, 0.03, 0.02, 0.05], [0.11, 0.09, 0.16]
    low, high = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    import math

    assert (math.log(welch(a, b, 0.95).low), math.log(welch(a, b, 0.95).high)) == pytest.approx(
        (low, high)
    )
    assert math.log(welch(a, b, 0.95).estimate) == pytest.approx(
        statistics.fmean(b) - statistics.fmean(a)
    )


def test_a_comparison_is_written_by_every_exporter():
    table = comparison_table(
        compare(every_status(), every_status(), differences=(), threshold=0.01)
    )
    for name in set(TABLE.names()) - {"csv-long"}:
        assert "not comparable" in export(table, name)


def test_a_regression_is_the_first_warning():
    table = comparison_table(
        compare(table1(), another([1, 1, 1.5, 1.25, 1.3]), differences=(), threshold=0.05)
    )
    assert table.warnings[0] == "REGRESSION: 2 cells slower by more than 5 %."
    assert [row.label for row in table.rows if row.mark] == ["ResNet50-BW", "ResNet50-BW"]


def test_a_cell_that_fails_in_b_is_lost_and_the_first_warning():
    group = table1().plan.groups[0]
    second = stored(
        [group],
        results_of(group, statuses={2: "out_of_memory", 3: "unsupported"}),
        rounds_of(group, [1, 1, None, None, 1.3]),
    )
    comparison = compare(table1(), second, differences=())
    assert {row.label for row in comparison.lost} == {"ResNet50-BW"}
    assert comparison.regressions == ()
    assert compare(second, table1(), differences=()).lost == ()
    assert (
        comparison_table(comparison).warnings[0]
        == "FAILED: 2 cells of A ran out of memory, crashed or timed out in B."
    )


def test_a_cell_that_fails_in_some_replicates_of_b_is_compared_with_a_warning():
    group = table1().plan.groups[0]
    results = results_of(group, replicates=3)
    victim = group.cases[2].key
    results = [
        dataclasses.replace(result, status="crashed")
        if (result.case, result.replicate) == (victim, 1)
        else result
        for result in results
    ]
    rounds = rounds_of(group, [1, 1, 1.2, 1.25, 1.3])
    rounds = [
        dataclasses.replace(
            round_,
            samples={
                key: samples
                for key, samples in round_.samples.items()
                if (key, round_.replicate) != (victim, 1)
            },
        )
        for round_ in rounds
    ]
    second = dataclasses.replace(stored([group], results, rounds), id="B")
    comparison = compare(table1(), second, differences=())
    rows_by_label = by_label(comparison)
    assert rows_by_label["ResNet50-BW"].reason == "crashed in 1 of 3 replicates of B"
    assert rows_by_label["ResNet50-BW"].verdict == "no difference seen"
    assert rows_by_label["ResNet50-SW^a"].reason == ""
    table = comparison_table(comparison)
    assert (
        "PARTLY FAILED: 2 cells compared without the replicates that failed; the reasons "
        "stand beside them."
    ) in table.warnings
    assert "crashed in 1 of 3 replicates of B" in export(table, "markdown")


def test_a_comparison_shows_the_warnings_of_its_runs():
    run = dataclasses.replace(
        table1(), id="B", complete=False, warnings=("resumed although this had changed: code",)
    )
    run = dataclasses.replace(
        run,
        plan=dataclasses.replace(
            run.plan, protocol=dataclasses.replace(run.plan.protocol, quick=True)
        ),
    )
    warnings = comparison_table(
        compare(dataclasses.replace(table1(), id="A", complete=True), run, differences=())
    ).warnings
    assert [warning.partition(":")[0] for warning in warnings] == ["QUICK", "INTERRUPTED", "B"]


def test_a_run_is_compared_with_the_paper():
    table = compare_paper(table1())
    flops = [
        row.cell("verdict").value for row in table.rows if "GFLOPs" in row.cell("quantity").value
    ]
    assert flops == ["equal as printed"] * 4
    bw = next(
        row
        for row in table.rows
        if row.label == "ResNet50-BW" and row.cell("quantity").value.startswith("CPU F+B")
    )
    assert bw.cell("verdict").value == "slower"
    assert bw.cell("paper").value == pytest.approx(0.793 / 0.720)
    gpu = next(row for row in table.rows if row.cell("quantity").value.startswith("GPU F,"))
    assert gpu.cell("verdict").value == "not comparable"
    assert "equal as printed" in export(table, "markdown")


def test_a_suite_that_the_paper_does_not_have():
    with pytest.raises(OptionError, match="names no table of the paper"):
        compare_paper(table1(paper=None))
