"""Tables on stdout, and the exit code of the runs they show."""

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from swbench.cli.lazy import exporters, result, tables

if TYPE_CHECKING:
    from swbench.report.table import Table
    from swbench.store import StoredRun

FAILED_CELL = 3


def exit_code(runs: Sequence["StoredRun"]) -> int:
    """3 where a cell of these runs failed, else 0."""
    failed = any(result_.status in result.FAILURES for run in runs for result_ in run.results)
    return FAILED_CELL if failed else 0


def print_runs(runs: Sequence["StoredRun"], format_: str) -> None:
    """Print the tables of `runs` on stdout, as one document."""
    print_tables([tables.build_table(run) for run in runs], format_)


def print_tables(tables_: "Table | Sequence[Table]", format_: str) -> None:
    """Print tables on stdout, with the terminal's width, and colours on a terminal."""
    sys.stdout.write(exporters.export(tables_, format_, **_terminal()))
    sys.stdout.flush()


def _terminal() -> dict[str, Any]:
    is_terminal = sys.stdout.isatty()
    return {
        "width": shutil.get_terminal_size((140, 24)).columns if is_terminal else 140,
        "colour": is_terminal and "NO_COLOR" not in os.environ,
    }
