"""A comparison of two runs as a table, so that every exporter can write it."""

from collections.abc import Iterator

from swbench.formatting import number
from swbench.report.comparison import NOT_COMPARABLE, NOT_GATED, SECONDS, Compared, Comparison
from swbench.report.notes import PASS_NAMES, count
from swbench.report.table import EMPTY_CELL, Cell, Column, Panel, Row, Section, Table
from swbench.stats.two_runs import SAME, UNCLEAR
from swbench.stats.verdict import FASTER, SLOWER, TOO_FEW

COLUMNS = (
    Column("label", "Row"),
    Column("pass", "Pass"),
    Column("basis", "Compared"),
    Column("a", "A", "ratio"),
    Column("b", "B", "ratio"),
    Column("b_over_a", "B / A", "ratio", bounds=True, needed=True),
    Column("verdict", "Verdict"),
    Column("regression", "Regression"),
    Column("reason", "Reason"),
    Column("group", "Group"),
    Column("metric", "Metric"),
    Column("run_a", "Run A"),
    Column("run_b", "Run B"),
    Column("case", "Case"),
    Column("gate", "Gate"),
    Column("p", "p", "error"),
    Column("p_holm", "p (Holm)", "error"),
)


def comparison_table(comparison: Comparison) -> Table:
    """One section a group, one row a cell and pass."""
    regressions = {(row.case, row.metric) for row in comparison.regressions}
    groups: dict[str, list[Row]] = {}
    for row in comparison.rows:
        seconds = row.basis == SECONDS
        not_compared = not row.verdict or row.ratio is None
        cells = {
            "label": Cell(row.label),
            "pass": Cell(PASS_NAMES.get(row.metric, row.metric)),
            "basis": Cell("seconds" if seconds else "ratio"),
            "a": EMPTY_CELL if not_compared else Cell(row.a, printed=_value_text(row.a, seconds)),
            "b": EMPTY_CELL if not_compared else Cell(row.b, printed=_value_text(row.b, seconds)),
            "b_over_a": Cell(status="not comparable")
            if not_compared
            else Cell(row.ratio.estimate, row.ratio.low, row.ratio.high, verdict=row.gate),
            "verdict": Cell(row.verdict),
            "regression": Cell("yes" if (row.case, row.metric) in regressions else "no"),
            "reason": Cell(_reason(row, comparison) or None),
            "group": Cell(row.group),
            "metric": Cell(row.metric),
            "run_a": Cell(comparison.a),
            "run_b": Cell(comparison.b),
            "case": Cell(row.case),
            "gate": Cell(row.gate),
            "p": Cell(row.p),
            "p_holm": Cell(row.adjusted),
        }
        groups.setdefault(row.group, []).append(
            Row(
                row.label,
                cells,
                mark="▲" if (row.case, row.metric) in regressions else "",
                minor=row.gate in (SAME, NOT_GATED),
            )
        )
    warnings = (
        [
            (
                f"REGRESSION: {count(len(regressions), 'cell')} slower by more than "
                f"{100 * comparison.threshold:g} %."
            )
        ]
        if regressions
        else []
    )
    if comparison.lost:
        warnings.append(
            f"FAILED: {count(len(comparison.lost), 'cell')} of A ran out of "
            "memory, crashed or timed out in B."
        )
    if comparison.partly_failed:
        warnings.append(
            f"PARTLY FAILED: {count(len(comparison.partly_failed), 'cell')} compared "
            "without the replicates that failed; the reasons stand beside them."
        )
    if (skipped := sum(row.verdict == NOT_COMPARABLE for row in comparison.rows)) and (
        skipped_only := skipped - len(comparison.lost)
    ):
        warnings.append(
            f"{skipped_only} of {count(len(comparison.rows), 'cell')} not compared; the "
            "reasons stand beside them."
        )
    if comparison.threshold and (unclear := len(comparison.rows_with_gate(UNCLEAR))):
        warnings.append(
            f"UNCLEAR: {count(unclear, 'cell')} neither within ±{100 * comparison.threshold:g} % "
            "nor called different; more replicates narrow the intervals."
        )
    warnings += comparison.warnings
    if comparison.differences:
        warnings.append(
            f"Unlike environments, so seconds are not compared: {'; '.join(comparison.differences)}"
        )
    shown = ["label", "pass", "basis", "a", "b", "b_over_a", "gate"]
    if any(row.cell("reason").value for rows in groups.values() for row in rows):
        shown.append("reason")
    return Table(
        title=f"{comparison.b} (B) against {comparison.a} (A)",
        kind="comparison",
        suite="",
        run=comparison.b,
        columns=COLUMNS,
        panels=(Panel("B over A [interval]; above 1, B is slower", tuple(shown)),),
        sections=tuple(Section(group, tuple(rows)) for group, rows in groups.items()),
        warnings=tuple(warnings),
        notes=tuple(_notes(comparison)),
        meta={
            "confidence": comparison.confidence,
            "threshold": comparison.threshold,
            "summary": _summary(comparison),
        },
    )


def _summary(comparison: Comparison) -> str:
    """A sentence with the numbers of cells that are slower, unclear, the same and so on, gravest
    first.
    """
    counts = [
        (len(comparison.lost), "failed in B"),
        (len(comparison.rows_with_gate(SLOWER)), "slower"),
        (len(comparison.missing), "missing in B"),
        (len(comparison.rows_with_gate(UNCLEAR)), "unclear"),
        (len(comparison.rows_with_gate(FASTER)), "faster"),
        (
            len(comparison.rows_with_gate(SAME)),
            f"the same within ±{100 * comparison.threshold:g} %",
        ),
    ]
    total = comparison.gated_count + len(comparison.lost) + len(comparison.missing)
    counts_text = ", ".join(f"{cells} {words}" for cells, words in counts if cells)
    return f"Of {count(total, 'cell')} (rows and passes): {counts_text or 'none compared'}."


def _reason(row: Compared, comparison: Comparison) -> str:
    """The row's own reason, and that of an unclear verdict: chance among so many rows, or too few
    replicates.
    """
    chance = (
        row.gate == UNCLEAR
        and row.verdict in (SLOWER, FASTER)
        and row.adjusted is not None
        and row.adjusted >= 1.0 - comparison.confidence
    )
    by_chance = (
        f"one of {comparison.gated_count} may be so by chance (p = {number(row.adjusted, 'error')})"
        if chance
        else ""
    )
    few = row.verdict if row.gate == UNCLEAR and row.verdict == TOO_FEW else ""
    return "; ".join(text for text in (row.reason, by_chance, few) if text)


def _notes(comparison: Comparison) -> Iterator[str]:
    confidence = f"{100 * comparison.confidence:g} %"
    yield _summary(comparison)
    if comparison.basis == SECONDS:
        yield (
            f"Seconds of both runs, with Welch's intervals at {confidence} over replicate "
            "processes."
        )
    else:
        yield (
            f"Intervals are Welch's at {confidence} over replicate "
            "processes. A row is compared by its ratio to the baseline of its own "
            "run, in which the speed of the machine on the day cancels; the baseline by its "
            "seconds, which gate nothing."
        )
    share = f"{100 * comparison.threshold:g} %"
    same = (
        f"Same: the interval lies within ±{share} (from 1 / {1 + comparison.threshold:g} to "
        f"{1 + comparison.threshold:g}), each row by itself."
        if comparison.threshold
        else "Without --threshold no row is called the same."
    )
    beyond = f", and by more than {share}" if comparison.threshold else ""
    yield (
        f"Gate: slower and faster are judged over all {comparison.gated_count} rows and passes "
        f"together{beyond}: where nothing differs, the chance that any is called so is at most "
        f"{100 * (1 - comparison.confidence):g} % (Holm). {same} All else is unclear."
    )


def _value_text(value: float, seconds: bool) -> str:
    return f"{number(value, 'seconds')} s" if seconds else number(value, "ratio")
