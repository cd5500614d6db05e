"""The gate of a comparison: its verdict on each row among all, and the report for a pull
request.
"""

import dataclasses
import json
import random

import pytest
from stored_runs import network_group, results_of, rounds_of, stored, table1

from swbench.report.compare import compare
from swbench.report.exporters import export
from swbench.report.table_comparison import comparison_table

FACTORS = [1, 1, 1.2, 1.25, 1.3]


def another(factors, seed=7, **keywords):
    run = table1()
    return dataclasses.replace(
        run, id="B", rounds=tuple(rounds_of(run.plan.groups[0], factors, seed=seed, **keywords))
    )


def words(comparison, metric="forward_s"):
    return {row.label: row.gate for row in comparison.rows if row.metric == metric}


def test_same_slower_faster_and_unclear_are_distinguished():
    steady = compare(table1(), another([1, 1, 1.2, 1.5, 1.0]), differences=(), threshold=0.05)
    assert words(steady) == {
        "ResNet50-BN": "not gated",
        "ResNet50-BW": "same",
        "ResNet50-SW^a": "slower",
        "ResNet50-SW^b": "faster",
    }
    assert {row.label for row in steady.regressions} == {"ResNet50-SW^a"}
    noisy = compare(table1(), another(FACTORS, noise=0.2), differences=(), threshold=0.05)
    assert set(words(noisy).values()) == {"not gated", "unclear"}
    assert len(noisy.undecided) == 6


def test_without_a_threshold_nothing_is_the_same():
    comparison = compare(table1(), another(FACTORS), differences=())
    assert set(words(comparison).values()) == {"not gated", "unclear"}
    notes = " ".join(comparison_table(comparison).notes)
    assert "Without --threshold no row is called the same" in notes


def test_seconds_are_gated_with_the_baseline_among_them():
    comparison = compare(
        table1(), another([1.5, 1.5, 1.8, 1.875, 1.95]), differences=(), basis="seconds"
    )
    assert set(words(comparison).values()) == {"slower"}
    assert comparison.gated_count == 8


def twenty(seed, slower=1.0, rounds=4):
    """A run of ten rows and two passes; the first row takes `slower` times as long."""
    rows = [("swa", layers, "auto", f"row {layers}") for layers in range(1, 11)]
    group = network_group(rows=rows)
    factors = [1, 1, 1.2 * slower, *[1.2] * 9]
    run = stored(
        [group],
        results_of(group, replicates=5),
        rounds_of(group, factors, seed=seed, noise=0.02, replicates=5, rounds=rounds),
    )
    return dataclasses.replace(run, id=f"run {seed}")


def test_one_row_of_twenty_that_differs_by_chance_does_not_fail_the_gate():
    """Of 60 pairs of equal runs some have a row that differs by itself; the gate calls a row
    different in at most one pair of twenty. There would be more if the passes of a row, and all
    rows by their baseline, were not correlated.
    """
    alone = among_all = 0
    for seed in range(60):
        comparison = compare(twenty(2 * seed), twenty(2 * seed + 1), differences=())
        assert comparison.gated_count == 20
        alone += any(row.gated and row.verdict in ("slower", "faster") for row in comparison.rows)
        among_all += any(row.gate in ("slower", "faster") for row in comparison.rows)
    assert alone >= 6
    assert among_all <= 3


def test_a_row_that_is_unclear_by_chance_has_that_reason():
    for seed in range(60):
        comparison = compare(twenty(2 * seed), twenty(2 * seed + 1), differences=())
        excused = [
            row for row in comparison.rows if row.verdict == "slower" and row.gate == "unclear"
        ]
        if excused:
            break
    (first, *_) = excused
    assert first.p < 0.05 <= first.adjusted
    table = comparison_table(comparison)
    row = next(
        row
        for row in table.rows
        if (row.cell("case").value, row.cell("metric").value) == (first.case, first.metric)
    )
    assert row.cell("reason").value.startswith("one of 20 may be so by chance (p = ")
    assert row.cell("p_holm").value == first.adjusted
    assert row.cell("verdict").value == "slower"
    assert not any(warning.startswith("PARTLY") for warning in table.warnings)


def test_a_row_that_is_slower_fails_among_twenty():
    comparison = compare(twenty(0), twenty(1, slower=1.2), differences=(), threshold=0.05)
    assert {row.label for row in comparison.regressions} == {"row 1"}
    assert len(comparison.regressions) == 2


def test_cells_that_failed_or_are_missing_in_b_have_their_gate_verdicts():
    group = table1().plan.groups[0]
    second = stored(
        [group],
        results_of(group, statuses={2: "out_of_memory", 3: "unsupported"}),
        rounds_of(group, [1, 1, None, None, 1.3]),
    )
    comparison = compare(
        table1(), dataclasses.replace(second, id="B"), differences=(), threshold=0.1
    )
    assert words(comparison)["ResNet50-BW"] == "failed"
    assert words(comparison)["ResNet50-SW^a"] == "not comparable"
    assert {row.label for row in comparison.lost} == {"ResNet50-BW"}
    assert {row.label for row in comparison.missing} == {"ResNet50-SW^a"}
    assert comparison_table(comparison).meta["summary"] == (
        "Of 6 cells (rows and passes): 2 failed in B, 2 missing in B, 2 the same within ±10 %."
    )
    reverse = compare(second, table1(), differences=(), threshold=0.1)
    assert (reverse.lost, reverse.missing, reverse.undecided) == ((), (), ())


def test_a_baseline_that_b_lacks_leaves_every_row_missing():
    group = table1().plan.groups[0]
    second = stored(
        [group], results_of(group, statuses={0: "crashed"}), rounds_of(group, [None, 1, 1, 1, 1])
    )
    comparison = compare(table1(), second, differences=(), threshold=0.1)
    assert {row.label for row in comparison.missing} == {
        "ResNet50-BW",
        "ResNet50-SW^a",
        "ResNet50-SW^b",
    }
    assert {row.label for row in comparison.lost} == {"ResNet50-BN"}
    assert comparison.gated_count == 0


def test_times_that_are_not_a_number_are_never_called_the_same():
    run = another(FACTORS)
    victim = run.plan.groups[0].cases[2].key
    rounds = [
        dataclasses.replace(
            round_,
            samples={
                key: dict.fromkeys(samples, float("nan")) if key == victim else samples
                for key, samples in round_.samples.items()
            },
        )
        for round_ in run.rounds
    ]
    comparison = compare(
        table1(), dataclasses.replace(run, rounds=tuple(rounds)), differences=(), threshold=0.05
    )
    assert words(comparison)["ResNet50-BW"] == "unclear"
    assert words(comparison)["ResNet50-SW^a"] == "same"


def test_too_few_replicates_are_unclear_with_that_reason():
    comparison = compare(table1(), another(FACTORS, replicates=1), differences=(), threshold=0.05)
    assert set(words(comparison).values()) == {"not gated", "unclear"}
    reasons = {row.label: row.cell("reason").value for row in comparison_table(comparison).rows}
    assert reasons["ResNet50-BW"] == "too few replicates"


def test_the_report_for_a_pull_request_begins_with_what_matters_and_folds_the_rest():
    comparison = compare(table1(), another([1, 1, 1.2, 1.5, 1.3]), differences=(), threshold=0.05)
    text = export(comparison_table(comparison), "markdown")
    lines = text.splitlines()
    assert lines[0].startswith("## B (B) against")
    assert lines[2] == "**Of 6 cells (rows and passes): 2 slower, 4 the same within ±5 %.**"
    assert lines[4] == "> **REGRESSION: 2 cells slower by more than 5 %.**  "
    above, _, folded = text.partition("<details>")
    assert "SW^a" in above.replace("\\", "")
    assert "ResNet50-BW" not in above
    assert "<summary>All 8 rows</summary>\n\n" in folded
    assert folded.count("ResNet50-BW") == 2
    assert folded.count("not gated") == 2
    assert "at most 5 % (Holm)" in folded.partition("</details>\n\n")[2]


def test_a_report_in_which_all_is_the_same_shows_no_row_unfolded():
    comparison = compare(table1(), another(FACTORS), differences=(), threshold=0.05)
    above = export(comparison_table(comparison), "markdown").partition("<details>")[0]
    assert above.splitlines()[2:] == [
        "**Of 6 cells (rows and passes): 6 the same within ±5 %.**",
        "",
    ]


def test_existing_columns_keep_their_places():
    table = comparison_table(compare(table1(), another([1, 1, 1.2, 1.5, 1.3]), differences=()))
    header, *rows = export(table, "csv").splitlines()
    assert header.startswith(
        "label,pass,basis,a,b,b_over_a,b_over_a_low,b_over_a_high,verdict,regression,reason,group,"
        "metric,run_a,run_b,case,gate,p,p_holm"
    )
    assert {row["verdict"] for row in _records(table)} == {"slower", "no difference seen"}
    assert len(rows) == 8


def _records(table):
    document = json.loads(export(table, "json"))
    sections = document["tables"][0]["sections"] if "tables" in document else document["sections"]
    return [
        {name: cell["value"] for name, cell in row["cells"].items() if "value" in cell}
        for section in sections
        for row in section["rows"]
    ]


def test_holm_counts_the_gated_rows_alone():
    """The baseline's seconds, which are not gated, do not reduce the power for the other rows."""
    rng = random.Random(1)
    comparison = compare(table1(), another(FACTORS, seed=rng.random()), differences=())
    gated = sorted((row for row in comparison.rows if row.gated), key=lambda row: row.p)
    assert gated[0].adjusted == pytest.approx(min(1.0, 6 * gated[0].p))
    assert {row.adjusted for row in comparison.rows if not row.gated} == {None}
