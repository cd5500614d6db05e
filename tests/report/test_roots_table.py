"""The table of roots: forward only, and an impossible time is marked."""

from dataclasses import replace

import pytest
from stored_runs import results_of, rounds_of, solver_group, stored

from swbench.report.build import build_table
from swbench.report.exporters import TABLE, export

FLOOR_S = 1e-4
"""Of every solver; the baseline takes ten times that."""


def judged(error, floor_s=FLOOR_S):
    measured = [
        (f"{name}_{which}", "1", (error,))
        for name in ("w_error", "root_residual", "preconditioned_error")
        for which in ("worst", "median")
    ]
    return [
        *measured,
        ("w_nonfinite_share", "1", (0.0,)),
        ("promised_error", "1", (1e-3,)),
        ("floor_s", "s", (floor_s,)),
    ]


def table(**settings):
    group = solver_group(
        solvers=("eigh", "polar", "svd"), batch=4, root=4, gradient=False, **settings
    )
    errors = {0: 1e-4, 1: 1e-4, 2: 1e-4, 3: 1e-4}
    results = [
        replace(result, chosen={"exact": "yes"})
        for result in results_of(
            group, measurements={at: judged(error) for at, error in errors.items()}
        )
    ]
    rounds = [
        replace(
            round_,
            samples={
                key: {"forward_s": times["forward_s"]} for key, times in round_.samples.items()
            },
        )
        for round_ in rounds_of(group, [1, 1, 0.05, 2], base_s=10 * FLOOR_S)
    ]
    return build_table(
        stored([group], results, rounds, kind="solvers", metrics=("time", "accuracy"))
    )


def rows(**settings):
    return {row.label: row for row in table(**settings).sections[0].rows}


def test_a_time_below_the_floor_is_impossible_and_never_best():
    by_label = rows()
    assert by_label["polar"].cell("status").value == "impossible"
    assert by_label["polar"].cell("roof_share").value == pytest.approx(2, rel=0.1)
    assert not by_label["polar"].mark
    assert by_label["eigh"].cell("status").value == "ok"
    assert by_label["eigh"].cell("roof_share").value == pytest.approx(0.1, rel=0.1)
    assert by_label["eigh"].mark
    (note,) = table().sections[0].notes
    assert note.startswith("polar, kappa=1e3: impossible: below the")


def test_a_suite_without_gradients_has_no_gradient_columns():
    text = export(table(), "table")
    assert "F+B" not in text
    assert "W g error" in text
    assert "p = 4" in text


def test_a_mixed_batch_is_named_and_its_matrices_counted():
    shown = table(sizes=(8, 16))
    assert "B = 4, each of G = 8, 16" in shown.sections[0].title
    per_matrix = {row.label: row for row in shown.sections[0].rows}["eigh"].cell("f_per_matrix_s")
    assert per_matrix.value == pytest.approx(10 * FLOOR_S / 8, rel=0.1)


@pytest.mark.parametrize("format_", TABLE.names())
def test_every_format_shows_a_roots_table(format_):
    assert export(table(sizes=(8, 16)), format_)
