"""`check`: is this suite file right? Every problem at once, and nothing is run."""

import click

from swbench.cli import completion
from swbench.cli.lazy import notes, plugin_files, suite
from swbench.cli.options import plugin_option
from swbench.errors import printable


@click.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE…", shell_complete=completion.suites)
@plugin_option
def check(files: tuple[str, ...], plugins: tuple[str, ...]) -> int:
    """Check suite files (or suites by name) and say what they would measure."""
    plugin_files.load(plugins)

    for file in files:
        plan = suite.expand(suite.load(file))
        cases = sum(len(group.cases) for group in plan.groups)
        click.echo(
            f"{printable(file)}: right; {notes.count(len(plan.groups), 'group')}, "
            f"{notes.count(cases, 'case')} on a CPU, {plan.protocol.iterations} iterations"
        )
    return 0
