"""`show`, `export`, `plot`, `compare`: everything that reads stored runs. None of it imports torch."""

import click

from swbench.cli.options import CommaList

_RESULTS = click.option("--results", default="results", show_default=True, help="Folder that holds the runs.")

REGRESSION = 1


@click.command("show")
@click.argument("refs", nargs=-1, required=True, metavar="RUN…")
@click.option("--format", "format_", default="table", show_default=True, help="table, markdown, csv, csv-long, latex, json, html.")
@_RESULTS
def show(refs: tuple[str, ...], format_: str, results: str) -> int:
    """Print the table of stored runs again."""
    from swbench import store
    from swbench.cli import measure
    from swbench.report import exporters

    exporters.TABLE.check(format_)
    return measure.show([store.find(results, ref) for ref in refs], format_)


@click.command("export")
@click.argument("ref", metavar="RUN")
@click.option("--format", "formats", type=CommaList(), default="markdown,csv,latex,json,html", show_default=True, help="Any of them.")
@click.option("-o", "--output", "directory", help="Folder to write to.  [default: exports/ in the run's folder]")
@_RESULTS
def export(ref: str, formats: tuple[str, ...], directory: str | None, results: str) -> int:
    """Write the table of a stored run as files."""
    from swbench import store
    from swbench.report import exporters
    from swbench.report.table import build_table

    for name in formats:
        exporters.TABLE.check(name)
    path = store.find(results, ref)
    for written in exporters.export_files(build_table(store.load(path)), formats, directory or path / "exports"):
        click.echo(written)
    return 0
