"""The modules that commands need beside click. Each is imported when one of its attributes is first
used, so that the command line starts at once. No command defers an import elsewhere.
"""

from importlib import import_module
from typing import Any


class _Module:
    """A module that is imported when one of its attributes is first used."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)


application = _Module("swbench.application")
case_kinds = _Module("swbench.case")
comparison = _Module("swbench.report.compare")
comparison_table = _Module("swbench.report.table_comparison")
devices_here = _Module("swbench.run.devices")
doctor_checks = _Module("swbench.doctor")
environment = _Module("swbench.machine.environment")
exporters = _Module("swbench.report.exporters")
follower = _Module("swbench.ranks.follower")
launch = _Module("swbench.profile.launch")
model_sites = _Module("swbench.models.describe")
models = _Module("swbench.models")
native = _Module("swbench.native.library")
node_group = _Module("swbench.ranks.nodes")
norms = _Module("swbench.norms")
notes = _Module("swbench.report.notes")
paper_comparison = _Module("swbench.report.compare_paper")
plot_style = _Module("swbench.report.plots.style")
plots = _Module("swbench.report.plots")
plugin_files = _Module("swbench.plugins")
profile_table = _Module("swbench.profile.table")
progress = _Module("swbench.cli.progress")
rendezvous = _Module("swbench.ranks.rendezvous")
result = _Module("swbench.result")
roofline = _Module("swbench.report.plots.roofline")
run_folders = _Module("swbench.store.folder")
schema = _Module("swbench.suite.schema")
selftests = _Module("swbench.selftest")
software = _Module("swbench.machine.software")
solvers = _Module("swbench.solvers")
store = _Module("swbench.store")
suite = _Module("swbench.suite")
tables = _Module("swbench.report.build")
