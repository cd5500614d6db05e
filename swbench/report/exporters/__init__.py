"""Formats by name. Every exporter writes the same `Table`, so their numbers agree."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from swbench.errors import StoreError
from swbench.registry import Registry
from swbench.report.table import Table

TABLE = Registry(
    "format",
    {
        "table": "swbench.report.exporters.terminal:TERMINAL",
        "markdown": "swbench.report.exporters.markdown:MARKDOWN",
        "csv": "swbench.report.exporters.csv_table:CSV",
        "csv-long": "swbench.report.exporters.csv_long:CSV_LONG",
        "latex": "swbench.report.exporters.latex:LATEX",
        "json": "swbench.report.exporters.json_document:JSON",
        "html": "swbench.report.exporters.html:HTML",
    },
)


@dataclass(frozen=True)
class Style:
    """The abilities of a terminal: `width` in characters, and `colour`. Formats for files ignore
    it.
    """

    width: int = 120
    colour: bool = False


class Exporter:
    """One format: `write(tables, style) -> str` gives the complete document, `filename` is its name
    in a folder of exports.
    """

    filename: str

    def write(self, tables: Sequence[Table], style: Style) -> str:
        """The document that holds all `tables`, in their order."""
        raise NotImplementedError


def names() -> tuple[str, ...]:
    """Every format."""
    return TABLE.names()


def export(
    table: Table | Iterable[Table],
    format: str,  # noqa: A002 - the word users know
    *,
    width: int = 120,
    colour: bool = False,
) -> str:
    """One or more tables as one document. `width` and `colour` matter to the terminal's format
    only. Raises UnknownName for an unknown format.
    """
    exporter: Exporter = TABLE.load(format)
    tables = [table] if isinstance(table, Table) else list(table)
    return exporter.write(tables, Style(width, colour))


def export_files(
    table: Table | Iterable[Table], formats: Iterable[str], directory: str | os.PathLike
) -> list[Path]:
    """Write one file for each format into `directory`, which is created if needed, and return their
    paths.

    `csv` writes the table and, as `csv-long`, every sample. A file appears complete or not at all.
    Raises StoreError where the folder cannot be written, and UnknownName for an unknown format
    before anything is written.
    """
    wanted = dict.fromkeys(TABLE.check(name) for name in formats)
    if "csv" in wanted:
        wanted["csv-long"] = None
    tables = [table] if isinstance(table, Table) else list(table)
    written = []
    try:
        target = Path(directory)
        target.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            path = target / TABLE.load(name).filename
            part = path.with_name(f".{path.name}.{os.getpid()}")
            part.write_text(export(tables, name), encoding="utf-8", newline="")
            os.replace(part, path)
            written.append(path)
    except OSError as error:
        raise StoreError(
            f"cannot write exports to {directory}: {error.strerror or error}; give "
            "another folder with -o"
        ) from error
    return written
