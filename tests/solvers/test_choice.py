"""`auto` answers from the measured table, with what is there, and `eigh` where nothing was
measured.
"""

import pytest
import torch

from swbench import solvers
from swbench.solvers import choice
from swbench.solvers.choice import Row
from swbench.solvers.polar_native import PolarNative


@pytest.fixture
def table(monkeypatch):
    rows = [
        Row("cpu", "float32", 8, 1, "eigh", 1.0, 1.0),
        Row("cpu", "float32", 16, 10, "eigh", 3.0, 1.0),
        Row("cpu", "float32", 16, 10, "polar", 1.0, 2.0),
        Row("cpu", "float32", 16, 10, "sold-elsewhere", 0.1, 0.1),
        Row("cpu", "float32", 16, 1000, "svd", 1.0, 1.0),
    ]
    monkeypatch.setattr(choice, "measured", lambda: tuple(rows))
    choice._choose.cache_clear()
    yield
    choice._choose.cache_clear()


@pytest.mark.parametrize(
    ("group", "batch", "dtype", "device", "chosen"),
    [
        # the sum of both ways decides, among the solvers that are here
        (16, 12, torch.float32, "cpu", "polar"),
        (9, 12, torch.float32, "cpu", "polar"),  # the next size up
        (40, 12, torch.float32, "cpu", "polar"),  # the largest size for any beyond
        (16, 500, torch.float32, "cpu", "svd"),  # the nearest batch
        (16, 100, torch.float32, "cpu", "polar"),  # as far from either: the smaller one
        (16, 101, torch.float32, "cpu", "svd"),
        (3, 500, torch.float32, "cpu", "eigh"),
        (16, 12, torch.float64, "cpu", "eigh"),  # not measured
        (16, 12, torch.float32, "meta", "eigh"),
    ],
)
def test_choose_returns_the_fastest_measured_solver(table, group, batch, dtype, device, chosen):
    assert choice.choose(torch.device(device), group, batch, dtype) == chosen


@pytest.mark.parametrize(("group", "chosen"), [(64, "polar-native"), (65, "eigh")])
def test_solvers_that_delegate_such_matrices_are_not_chosen(monkeypatch, group, chosen):
    monkeypatch.setattr(PolarNative, "available", lambda self, device: None)
    monkeypatch.setattr(
        choice,
        "measured",
        lambda: (
            Row("cpu", "float32", 128, 1, "polar-native", 1.0, 1.0),
            Row("cpu", "float32", 128, 1, "eigh", 2.0, 2.0),
        ),
    )
    assert choice.by_batch("cpu", group, "float32") == ((choice.ANY, chosen),)


def test_the_table_names_exact_solvers():
    assert {row.device for row in choice.measured()} >= {"cpu"}
    for name in {row.solver for row in choice.measured()} & set(solvers.names()):
        assert solvers.get(name).exact


def test_chosen_reports_the_solver():
    from swbench.norms import build

    layer = build("swa", 32)
    layer(torch.randn(2, 32, 5, 5))
    assert layer.chosen["solver"] == choice.choose(torch.device("cpu"), 16, 4, torch.float32)


@pytest.fixture
def roots(monkeypatch):
    rows = [
        Row("cpu", "float32", 64, 1, "eigh", 2.0, 2.0),
        Row("cpu", "float32", 64, 1, "polar", 3.0, 4.0),
        Row("cpu", "float32", 64, 1, "eigh", 2.0, None),
        Row("cpu", "float32", 64, 1, "polar", 1.0, None),
        Row("cpu", "float32", 64, 1, "svd", 1.0, None, 4),
        Row("cpu", "float32", 64, 1, "eigh", 2.0, None, 4),
    ]
    monkeypatch.setattr(choice, "measured", lambda: tuple(rows))
    choice._choose.cache_clear()
    yield
    choice._choose.cache_clear()


@pytest.mark.parametrize(
    ("root", "gradient", "chosen"), [(2, True, "eigh"), (2, False, "polar"), (4, False, "svd")]
)
def test_each_root_and_the_gradient_have_their_own_rows(roots, root, gradient, chosen):
    assert choice.choose(torch.device("cpu"), 64, 3, torch.float32, root, gradient) == chosen


def test_the_function_and_the_suite_take_auto(roots):
    from swbench import inverse_root
    from swbench.case import SolverCase
    from swbench.probes.roots import solver_workload

    cov = 2 * torch.eye(64).expand(3, 64, 64)
    for p, name in ((2, "polar"), (4, "svd")):
        expected = solvers.get(name).inverse_root(cov, p)
        assert torch.equal(inverse_root(cov, p, solver="auto"), expected)
        case = SolverCase(solver="auto", batch=3, group=64, root=p, gradient=False)
        assert solver_workload(case).chosen["solver"] == name


def test_forward_alone_was_measured_up_to_512():
    for root in (2, 4):
        groups = {
            row.group
            for row in choice.measured()
            if row.root == root and row.gradient_us is None and row.device == "cpu"
        }
        assert max(groups) == 512
