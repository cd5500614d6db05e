"""`show`, `export`, `plot` and `compare`, which read stored runs. They import no torch."""

import click

from swbench.cli import completion
from swbench.cli.lazy import (
    comparison,
    comparison_table,
    environment,
    exporters,
    paper_comparison,
    plots,
    store,
    tables,
)
from swbench.cli.options import CommaList, Percent, results_option
from swbench.cli.streams import notify
from swbench.cli.tables import exit_code, print_runs, print_tables
from swbench.errors import OptionError, printable

REGRESSION = 1


@click.command("show")
@click.argument("refs", nargs=-1, required=True, metavar="RUN…", shell_complete=completion.runs)
@click.option(
    "--format",
    "format_",
    shell_complete=completion.format_,
    default="table",
    show_default=True,
    help="table, markdown, csv, csv-long, latex, json, html.",
)
@results_option
def show(refs: tuple[str, ...], format_: str, results: str) -> int:
    """Print the table of stored runs again."""
    exporters.TABLE.check(format_)
    runs = tables.stored_runs([store.find(results, ref) for ref in refs], notify)
    print_runs(runs, format_)
    return exit_code(runs)


@click.command("export")
@click.argument("ref", metavar="RUN", shell_complete=completion.runs)
@click.option(
    "--format",
    "formats",
    type=CommaList(),
    shell_complete=completion.formats,
    default="markdown,csv,latex,json,html",
    show_default=True,
    help="Any of them.",
)
@click.option(
    "-o",
    "--output",
    "directory",
    help="Folder to write to.  [default: exports/ in the run's folder]",
)
@results_option
def export(ref: str, formats: tuple[str, ...], directory: str | None, results: str) -> int:
    """Write the table of a stored run as files."""
    for name in formats:
        exporters.TABLE.check(name)
    path = store.find(results, ref)
    for written in exporters.export_files(
        tables.build_table(store.load(path)), formats, directory or path / "exports"
    ):
        click.echo(printable(written))
    return 0


@click.command("plot")
@click.argument("ref", metavar="RUN", shell_complete=completion.runs)
@click.option("--only", type=CommaList(), help="Plots by name instead of all that fit the run.")
@click.option(
    "--format", "formats", type=CommaList(), default="png,svg", show_default=True, help="png, svg."
)
@click.option(
    "-o",
    "--output",
    "directory",
    help="Folder to write to.  [default: exports/ in the run's folder]",
)
@results_option
def plot(
    ref: str,
    only: tuple[str, ...] | None,
    formats: tuple[str, ...],
    directory: str | None,
    results: str,
) -> int:
    """Draw the plots that a stored run allows."""
    path = store.find(results, ref)
    for written in plots.plot_files(
        tables.build_table(store.load(path)), directory or path / "exports", only, formats
    ):
        click.echo(printable(written))
    return 0


@click.command("compare")
@click.argument("first", metavar="RUN_A", shell_complete=completion.runs)
@click.argument("second", metavar="RUN_B", shell_complete=completion.runs_or_paper)
@click.option(
    "--threshold",
    type=Percent(),
    help=("How much slower counts as a regression, such as 5%.  [default: any difference]"),
)
@click.option(
    "--fail",
    is_flag=True,
    help=("Exit 1 if a cell is slower, or one of A failed in B; 2 if nothing could be compared."),
)
@click.option(
    "--fail-unclear",
    is_flag=True,
    help=(
        "Exit 1 as --fail does, and also for a cell that is unclear or missing in B: only what is "
        "shown to be the same or faster passes. Needs a --threshold."
    ),
)
@click.option(
    "--cross-machine", is_flag=True, help="Compare the ratios of runs from unlike environments."
)
@click.option(
    "--seconds", is_flag=True, help="Compare seconds instead of ratios to each run's own baseline."
)
@click.option(
    "--format",
    "format_",
    shell_complete=completion.format_,
    default="table",
    show_default=True,
    help="table, markdown, csv, latex, json, html.",
)
@results_option
def compare(
    first: str,
    second: str,
    threshold: float | None,
    fail: bool,
    fail_unclear: bool,
    cross_machine: bool,
    seconds: bool,
    format_: str,
    results: str,
) -> int:
    """Compare run B with run A, cell by cell; `compare RUN paper` sets a run beside the
    supplement.
    """
    exporters.TABLE.check(format_)
    a = store.load(store.find(results, first))
    if second == "paper":
        if fail or fail_unclear or threshold or seconds:
            raise OptionError(
                "--fail, --fail-unclear, --threshold and --seconds do not apply to a comparison "
                "with the paper, whose hardware differs; leave them out"
            )
        print_tables(paper_comparison.compare_paper(a), format_)
        return 0
    if fail_unclear and not threshold:
        raise OptionError(
            "--fail-unclear needs a --threshold, such as 5%: without one no row can be called "
            "the same"
        )
    b = store.load(store.find(results, second))
    differences = environment.unlike(a.environment, b.environment)
    basis = comparison.SECONDS if seconds else comparison.RELATIVE
    comparison_ = comparison.compare(
        a,
        b,
        differences=differences,
        cross_machine=cross_machine,
        threshold=threshold or 0.0,
        basis=basis,
    )
    print_tables(comparison_table.comparison_table(comparison_), format_)
    if not (fail or fail_unclear):
        return 0
    if not comparison_.gated_count and not comparison_.lost:
        raise OptionError(
            f"--fail: no cell of {b.id} could be compared with {a.id}; measure the "
            "same suite with the same options and threads"
        )
    failed = comparison_.regressions or comparison_.lost
    return REGRESSION if failed or (fail_unclear and comparison_.undecided) else 0
