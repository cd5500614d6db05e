"""Replacing the batch normalisations of a network by other norms, and nothing else."""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from swbench import norms
from swbench.errors import OptionError
from swbench.models.norm_sites import NormSite, Where, choose
from swbench.models.outputs import floating
from swbench.norms.replacement import MIXES, transfer_state


def convert_norms(
    model: nn.Module,
    norm: str,
    where: Where = None,
    *,
    group: int = 16,
    solver: str = "auto",
    inplace: bool = False,
    mix: str = "equal",
    name: str = "the network",
) -> nn.Module:
    """Put `norm` (`bw`, `swa` …) at the sites of `model` that `where` chooses. Returns a copy, or
    with `inplace` the model itself. All other modules are unchanged.

    `where` is what `norm_sites.choose` takes: numbers, globs over module paths, rules. `group`
    channels share a whitening matrix, which `solver` computes. A layer starts from the state of the
    batch normalisation (`norms.replacement.transfer_state`): parameters, statistics, eps, momentum,
    mode, device, dtype and hooks. In eval mode the output with `bw` is therefore the network's own
    to rounding. With `swa` and `swb` it is not, because the statistics of an image have no running
    value to start from, and with equal weights they are half of SW^a's and four fifths of SW^b's;
    `output_change` says by how much an output changes, docs/own-networks.md what that is in 30
    networks. `mix="batch"` starts with all weight on the batch's statistics, where it is the
    network's own output too. `name` stands for the network in messages.

    Raises OptionError before anything is changed: for terms of `where` that choose nothing, a
    chosen norm that cannot be replaced (frozen ones, subclasses with their own behaviour, instance
    norms, parametrised ones), and a group that does not divide a site's channels; UnknownName for
    an unregistered norm or solver; ValueError for another `mix`.
    """
    if mix not in MIXES:
        raise ValueError(f"mix must be one of {', '.join(MIXES)}, not {mix!r}")
    norms.TABLE.check(norm)
    check_groups(choose(model, where, name), norm, group, name)
    model = model if inplace else copied(model)

    def layer(site: NormSite) -> nn.Module:
        device = next((t.device for t in (*site.module.parameters(), *site.module.buffers())), None)
        with torch.device(device or torch.get_default_device()):
            if norm == "bn" and isinstance(site.module, nn.SyncBatchNorm):
                return nn.SyncBatchNorm(site.channels, process_group=site.module.process_group)
            return norms.build(norm, site.channels, group=group, solver=solver, eps=site.module.eps)

    layers = [(site, layer(site)) for site in choose(model, where, name)]
    return replace(
        model, ((site, transfer_state(site.module, new_layer, mix)) for site, new_layer in layers)
    )


def copied(model: nn.Module) -> nn.Module:
    """Copy a model, but share its process groups, which belong to the process."""
    groups = [group for m in model.modules() if (group := getattr(m, "process_group", None))]
    return copy.deepcopy(model, {id(group): group for group in groups})


def check_groups(sites: Iterable[NormSite], norm: str, group: int, name: str) -> None:
    """Raise OptionError, naming the site, where groups of `group` channels do not divide one."""
    if norm in norms.WITHOUT_SOLVER:
        return
    for site in sites:
        if group < 1 or site.channels % group:
            raise OptionError(
                f"group {group} does not divide the {site.channels} channels of {site.path} in "
                f"{name}; choose another --group, or leave it out with !{site.path}"
            )


def replace(model: nn.Module, layers: Iterable[tuple[NormSite, nn.Module]]) -> nn.Module:
    """Put each layer at all paths of its site in `model`. Returns the model, or the layer where the
    model itself is the norm.
    """
    for site, layer in layers:
        for path in site.paths:
            parent, _, child = path.rpartition(".")
            if not path:
                model = layer
            else:
                setattr(model.get_submodule(parent), child, layer)
    return model


def output_change(before: Callable, after: Callable, *inputs: Tensor) -> float:
    """The norm of the difference of two networks' outputs on `inputs`, relative to the norm of the
    first output. The modes of both are unchanged.
    """
    with torch.no_grad():
        pairs = list(zip(floating(before(*inputs)), floating(after(*inputs)), strict=True))
    difference = sum((a - b).double().square().sum() for a, b in pairs)
    reference = sum(a.double().square().sum() for a, _ in pairs)
    return (difference / reference).sqrt().item()
