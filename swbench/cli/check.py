"""`check`: checks suite files, and shows where their norms go. It reports every problem at once and
runs nothing.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from swbench.cli import completion, sites
from swbench.cli.lazy import notes, plugin_files, suite
from swbench.cli.options import plugin_option
from swbench.errors import printable

if TYPE_CHECKING:
    from swbench.plan import Plan


@click.command("check")
@click.argument("files", nargs=-1, metavar="FILE…", shell_complete=completion.suites)
@sites.model_options
@plugin_option
def check(
    files: tuple[str, ...],
    model: str | None,
    where: str | None,
    images: tuple[list[int], ...] | None,
    group: int,
    plugins: tuple[str, ...],
) -> int:
    """Check suite files (or suites by name), and say what they would measure and which norms they
    replace; or show the norms of the network that --model names.
    """
    plugin_files.load(plugins)
    sites.require_model(model, where, images)
    if not files and model is None:
        raise click.UsageError("Missing argument 'FILE…'", click.get_current_context())
    for file in files:
        plan = suite.expand(suite.load(file))
        cases = sum(len(group.cases) for group in plan.groups)
        click.echo(
            f"{printable(file)}: right; {notes.count(len(plan.groups), 'group')}, "
            f"{notes.count(cases, 'case')} on a CPU, {plan.protocol.iterations} iterations"
        )
        for line in _sites(plan):
            click.echo(line)
    if model is not None:
        for line in sites.of_model(model, where, images, group):
            click.echo(line)
    return 0


def _sites(plan: "Plan") -> Iterator[str]:
    """The lines on the sites of each placement of a network suite, for its first image size."""
    if plan.kind != "network":
        return
    shown: set[tuple] = set()
    for group in plan.groups:
        for case in group.cases:
            key = (case.model, case.layers, case.group, case.placement)
            if case.layers and key not in shown:
                shown.add(key)
                yield from sites.of_placement(*key, image=case.image)
