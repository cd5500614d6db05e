"""A comparison of two runs as a table, so that every exporter can write it."""

from swbench.report.compare import NOT_COMPARABLE, SECONDS, Comparison
from swbench.report.notes import LETTERS, count
from swbench.report.table import NOTHING, Cell, Column, Panel, Row, Section, Table

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
)


def comparison_table(comparison: Comparison) -> Table:
    """One section a group, one row a cell and pass."""
    regressions = {(row.case, row.metric) for row in comparison.regressions}
    groups: dict[str, list[Row]] = {}
    for one in comparison.rows:
        seconds = one.basis == SECONDS
        gone = not one.verdict or one.ratio is None
        cells = {
            "label": Cell(one.label),
            "pass": Cell(LETTERS.get(one.metric, one.metric)),
            "basis": Cell("seconds" if seconds else "ratio"),
            "a": NOTHING if gone else Cell(one.a, printed=_shown(one.a, seconds)),
            "b": NOTHING if gone else Cell(one.b, printed=_shown(one.b, seconds)),
            "b_over_a": Cell(status="not comparable")
            if gone
            else Cell(one.ratio.estimate, one.ratio.low, one.ratio.high, verdict=one.verdict),
            "verdict": Cell(one.verdict),
            "regression": Cell("yes" if (one.case, one.metric) in regressions else "no"),
            "reason": Cell(one.reason or None),
            "group": Cell(one.group),
            "metric": Cell(one.metric),
            "run_a": Cell(comparison.a),
            "run_b": Cell(comparison.b),
            "case": Cell(one.case),
        }
        groups.setdefault(one.group, []).append(
            Row(one.label, cells, mark="▲" if (one.case, one.metric) in regressions else "")
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
    if comparison.partly:
        warnings.append(
            f"PARTLY FAILED: {count(len(comparison.partly), 'cell')} compared "
            "without the replicates that failed; the reasons stand beside them."
        )
    if (skipped := sum(row.verdict == NOT_COMPARABLE for row in comparison.rows)) and (
        apart := skipped - len(comparison.lost)
    ):
        warnings.append(
            f"{apart} of {count(len(comparison.rows), 'cell')} not compared; the "
            "reasons stand beside them."
        )
    warnings += comparison.warnings
    if comparison.differences:
        warnings.append(
            f"Unlike environments, so seconds are not compared: {'; '.join(comparison.differences)}"
        )
    shown = ["label", "pass", "basis", "a", "b", "b_over_a", "verdict"]
    if any(row.reason for row in comparison.rows):
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
        notes=(
            f"Intervals are Welch's at {100 * comparison.confidence:g} % over replicate "
            "processes. A row is compared by its ratio to the baseline of its own "
            "run, in which the speed of the machine on the day cancels; the baseline by its "
            "seconds, which gate nothing."
            if comparison.basis != SECONDS
            else (
                "Seconds of both runs, with Welch's intervals at "
                f"{100 * comparison.confidence:g} % over replicate processes."
            ),
        ),
        meta={"confidence": comparison.confidence},
    )


def _shown(value: float, seconds: bool) -> str:
    from swbench.formatting import number

    return f"{number(value, 'seconds')} s" if seconds else number(value, "ratio")
