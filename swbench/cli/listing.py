"""`list`: suites, models, norms, solvers, probes and runs. It imports torch only for details of the
models.
"""

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from swbench.cli import sites
from swbench.cli.lazy import (
    models,
    norms,
    plugin_files,
    run_folders,
    schema,
    solvers,
    store,
    suite,
)
from swbench.cli.options import plugin_option, results_option
from swbench.cli.streams import notify
from swbench.errors import OptionError, StoreError, printable

if TYPE_CHECKING:
    from swbench.store import Summary

KINDS = ("suites", "models", "norms", "solvers", "probes", "runs")


@click.command("list")
@click.argument("kind", required=False, type=click.Choice(KINDS))
@click.option(
    "-v", "--verbose", is_flag=True, help="Details: for models, every whitened convolution."
)
@sites.model_options
@results_option
@plugin_option
def list_(
    kind: str | None,
    verbose: bool,
    results: str,
    model: str | None,
    where: str | None,
    images: tuple[list[int], ...] | None,
    group: int,
    plugins: tuple[str, ...],
) -> None:
    """List suites, models, norms, solvers, probes (what can be measured) or runs."""
    plugin_files.load(plugins)
    sites.require_model(model, where, images)
    if model and kind != "models":
        raise OptionError("--model shows the norms of a network in `list models -v`")
    for each in (kind,) if kind else KINDS:
        if kind is None:
            click.echo(f"{each}:")
        if each == "models" and (verbose or model):
            shown = sites.of_model(model, where, images, group) if model else _models()
            for line in shown:
                click.echo(line)
        elif each == "solvers" and verbose:
            _solvers()
        else:
            lines = _lines(each, results)
            for line in lines:
                click.echo(f"  {printable(line)}" if kind is None else printable(line))
            if kind == "runs" and not lines:
                if os.path.isfile(results):
                    raise StoreError(run_folders.no_runs(results))
                notify(run_folders.no_runs(results))


def _models() -> Iterator[str]:
    for model in models.names():
        for kind in models.KINDS:
            for layers in models.placements(model, kind):
                yield from sites.of_placement(model, layers, kind=kind)


def _solvers() -> None:
    for name in solvers.names():
        solver = solvers.get(name)
        reason = solver.available("cpu")
        kind = "exact" if solver.exact else "not ZCA whitening"
        roots = "p = " + ", ".join(map(str, solver.roots))
        click.echo(
            f"  {name:16s} {kind:18s} {roots:9s} {solver.source}"
            f"{f' (not here: {reason})' if reason else ''}"
        )


def _lines(kind: str, results: str) -> list[str]:
    if kind == "suites":
        return list(suite.names())
    if kind == "models":
        return list(models.names())
    if kind == "norms":
        return list(norms.names())
    if kind == "solvers":
        return list(solvers.names())
    if kind == "probes":
        return [f"{name:12s} {words}" for name, words in schema.METRICS.items()]
    return [_summary(run) for run in store.runs(results)]


def _summary(run: "Summary") -> str:
    """One run as a line: id, when it began (UTC), suite, whether it is complete."""
    try:
        began = time.strftime("%Y-%m-%d %H:%M", time.gmtime(run.created))
    except (ValueError, OverflowError, OSError):  # a number in a file from elsewhere
        began = "at no date"
    return f"{run.id}  {began:16s}  {run.suite}  {'complete' if run.complete else 'unfinished'}"
