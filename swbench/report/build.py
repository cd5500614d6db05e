"""From stored runs to their tables: the kind of suite decides which."""

from collections.abc import Callable, Sequence
from pathlib import Path

from swbench import store
from swbench.gc_control import gc_disabled
from swbench.report.paper import PaperTable, paper_table
from swbench.report.table import Table
from swbench.report.table_network import network_table
from swbench.report.table_solver import solver_table
from swbench.report.table_stability import stability_table
from swbench.store import StoredRun


def stored_runs(folders: Sequence[Path], tell: Callable[[str], None]) -> list[StoredRun]:
    """The runs in these folders. What a reader must know of their files is told, a line each."""
    runs = [store.load(folder) for folder in folders]
    for run in runs:
        for warning in run.warnings:
            tell(warning)
    return runs


def build_table(run: StoredRun, paper: PaperTable | None = None) -> Table:
    """The table of a stored run, complete or not; `paper` defaults to the supplement's table that
    the suite names, if it is at hand.

    Network suites give the supplement's rows and columns, solver suites a section a size, stability
    suites one a dtype.
    """
    with gc_disabled():
        kinds = {case.kind for group in run.plan.groups for case in group.cases}
        if "solver" in kinds:
            return solver_table(run)
        if "stability" in kinds:
            return stability_table(run)
        if paper is None and run.plan.paper:
            paper = paper_table(run.plan.paper)
        return network_table(run, paper)
