"""`run`: suites in, results on disk, a table on stdout."""

from typing import Any

import click

from swbench.cli import completion, torchrun
from swbench.cli.options import plugin_option, results_option, suite_options
from swbench.errors import OptionError
from swbench.suite.options import Options


@click.command("run")
@click.argument(
    "suites", nargs=-1, required=True, metavar="SUITE…", shell_complete=completion.suites
)
@suite_options(Options)
@results_option
@click.option(
    "--format",
    "format_",
    shell_complete=completion.format_,
    default="table",
    show_default=True,
    help="table, markdown, csv, csv-long, latex, json, html.",
)
@click.option(
    "--resume", is_flag=True, help="Go on with the newest unfinished run of this suite and options."
)
@click.option(
    "--anyway",
    is_flag=True,
    help=(
        "With --resume: go on although code, suite or environment changed; "
        "over nodes: although they differ. Recorded."
    ),
)
@click.option(
    "--allow-busy", is_flag=True, help="Measure on a GPU that another program uses as well."
)
@click.option("--dry-run", is_flag=True, help="Say what would be measured, and stop.")
@plugin_option
def run(suites: tuple[str, ...], **options: Any) -> int:
    """Measure SUITE (a name from `list suites`, or a TOML file) and print its table."""
    from swbench.cli.measure import measure

    here = torchrun.place()
    if options["anyway"] and not options["resume"] and (here is None or here.nodes == 1):
        raise OptionError(
            "--anyway only means something with --resume or over several nodes; "
            "add --resume, or leave --anyway out"
        )
    return torchrun.under(options, lambda nodes: measure(suites, nodes=nodes, **options))
