"""`list`: what there is, without importing torch unless details of the models are asked for."""

import os
import time
from typing import TYPE_CHECKING

import click

from swbench.cli.lazy import (
    model_sites,
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
from swbench.cli.streams import tell
from swbench.errors import StoreError, printable

if TYPE_CHECKING:
    from swbench.store import Summary

_IMAGES = {"resnet50-seg": (713, 713), "stylizer": (256, 256)} | {
    f"resnet{depth}": (32, 32) for depth in (20, 32, 44, 56, 110)
}
"""The image sizes the paper uses, where they are not 224×224."""

KINDS = ("suites", "models", "norms", "solvers", "probes", "runs")


@click.command("list")
@click.argument("kind", required=False, type=click.Choice(KINDS))
@click.option(
    "-v", "--verbose", is_flag=True, help="Details: for models, every whitened convolution."
)
@results_option
@plugin_option
def list_(kind: str | None, verbose: bool, results: str, plugins: tuple[str, ...]) -> None:
    """List suites, models, norms, solvers, probes (what can be measured) or runs."""
    plugin_files.load(plugins)
    for each in (kind,) if kind else KINDS:
        if kind is None:
            click.echo(f"{each}:")
        if each == "models" and verbose:
            _models()
        elif each == "solvers" and verbose:
            _solvers()
        else:
            lines = _lines(each, results)
            for line in lines:
                click.echo(f"  {printable(line)}" if kind is None else printable(line))
            if kind == "runs" and not lines:
                if os.path.isfile(results):
                    raise StoreError(run_folders.none(results))
                tell(run_folders.none(results))


def _models() -> None:
    for model in models.names():
        height, width = _IMAGES.get(model, (224, 224))
        for layers in models.PLACEMENTS.get(model, {}):
            sites = model_sites.describe(model, layers, (height, width))
            matrices = sum(site.matrices for site in sites)
            click.echo(
                f"  {model}: {layers} whitened convolutions, {matrices} matrices of "
                f"16x16 an image of {height}x{width}"
            )
            click.echo("    conv  stage block  channels       map  matrices")
            for site in sites:
                at, size = site.site, f"{site.height}x{site.width}"
                click.echo(
                    f"    {at.conv_index:4d}  {at.stage:5d} {at.block:5d}  "
                    f"{at.channels:8d}  {size:>8s}  {site.matrices:8d}"
                )


def _solvers() -> None:
    for name in solvers.names():
        cls = solvers.TABLE.load(name)
        reason = cls().available("cpu")
        kind = "exact" if cls.exact else "not ZCA whitening"
        click.echo(
            f"  {name:16s} {kind:18s} {cls.source}{f' (not here: {reason})' if reason else ''}"
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
