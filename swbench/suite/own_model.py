"""The suite of a network that `--model` names: its own norms, and others at the sites of `--where`.

This module loads torch and the network, so it is imported only where such a suite is made.
"""

import re

from swbench import models, plugins
from swbench.models.convert import check_groups
from swbench.models.describe import try_out
from swbench.models.named import named
from swbench.models.norm_sites import choose
from swbench.plugins import NamedModel
from swbench.suite import schema
from swbench.suite.options import Options
from swbench.suite.source import Suite

NORMS = ("bw", "swa", "swb")
"""The norms beside the network's own, without --norm."""

ALL = "every=1"
"""The sites without --where: every batch normalisation."""

IMAGE = ((224, 224),)


def permission(model: str) -> tuple[NamedModel, ...]:
    """Permit the import of the network that the user named, in this process and its workers. Empty
    for a network of `list models`.

    Raises OptionError or UnknownName where there is no such network.
    """
    models.check_name(model)
    return plugins.load([named(model)]) if models.is_named(model) else ()


def suite_of(options: Options) -> Suite:
    """The suite of `options.model`, with a row for each norm.

    The network is built and called once, so that errors appear before anything is measured. Raises
    OptionError for a network without batch normalisation, terms of --where that choose nothing,
    groups that do not divide a chosen site, and a network that fails on its input.
    """
    model, where = options.model, options.where or ALL
    norms = [norm for norm in options.norms or NORMS if norm != "bn"]
    images, batches = options.images or IMAGE, options.batches or (1,)
    network = models.build(model)
    sites = choose(network, where, model)
    for norm in norms:
        for group in options.groups or (16,):
            check_groups(sites, norm, group, model)
    for image in images:
        models.check_image(model, image, min(batches))
        try_out(model, min(batches), image)
    base = {name: field.default for name, field in schema.network_keys().items()}
    base |= {"model": model, "image": images, "batch": batches, "where": where}
    empty = dict.fromkeys(schema.row_keys())
    rows = [{**empty, "norm": "bn", "layers": 0}]
    rows += [{**empty, "norm": norm, "layers": len(sites)} for norm in norms]
    return Suite(
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", model),
        title=f"{model}, {len(sites)} norms replaced where {where}",
        kind="network",
        paper=None,
        metrics=None,
        base=base,
        full={},
        rows=tuple(rows),
        protocol={},
        text=_text(options, where, [site.path for site in sites]),
    )


def _text(options: Options, where: str, paths: list[str]) -> str:
    """The text that the run stores in place of a suite file. It is all comments, for a suite cannot
    name a network to import.
    """
    lines = [
        f"no suite file: measured with --model {options.model} --where {where}",
        f"norms replaced: {', '.join(paths)}",
    ]
    return "".join(f"# {line}\n" for line in lines)
