"""Tables on stdout, and the exit code that goes with them."""

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
    failed = any(one.status in result.FAILURES for run in runs for one in run.results)
    return FAILED_CELL if failed else 0


def print_runs(runs: Sequence["StoredRun"], format_: str) -> None:
    """The tables of `runs` on stdout, as one document."""
    print_tables([tables.build_table(run) for run in runs], format_)


def print_tables(found: "Table | Sequence[Table]", format_: str) -> None:
    """Tables on stdout, as wide as the terminal is, and coloured where it shows colours."""
    sys.stdout.write(exporters.export(found, format_, **_terminal()))
    sys.stdout.flush()


def _terminal() -> dict[str, Any]:
    here = sys.stdout.isatty()
    return {
        "width": shutil.get_terminal_size((140, 24)).columns if here else 140,
        "colour": here and "NO_COLOR" not in os.environ,
    }
