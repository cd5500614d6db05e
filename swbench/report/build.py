"""The table of a stored run, by the kind of its suite."""

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
    """The runs in these folders. `tell` gets a line for each warning about their files."""
    runs = [store.load(folder) for folder in folders]
    for run in runs:
        for warning in run.warnings:
            tell(warning)
    return runs


def build_table(run: StoredRun, paper: PaperTable | None = None) -> Table:
    """The table of a stored run, complete or not. `paper` defaults to the supplement's table that
    the suite names, if there is one.

    Network suites have the supplement's rows and columns, solver suites a section for each size,
    stability suites a section for each dtype.
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
