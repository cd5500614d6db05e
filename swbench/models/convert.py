"""Other norms in the place of a network's batch normalisations, and nothing else changed."""

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
    """`model` with `norm` (`bw`, `swa` …) at the sites that `where` chooses; a copy, or with
    `inplace` the model itself. All other modules of what is returned are what they were.

    `where` is what `norm_sites.choose` takes: numbers, globs over module paths, rules. `group`
    channels share a whitening matrix, which `solver` computes. A layer goes on from what the batch
    normalisation had (`norms.replacement.transfer_state`): parameters, statistics, eps, momentum,
    mode, device, dtype and hooks. In eval mode the output with `bw` is therefore the network's own
    to rounding. With `swa` and `swb` it is not, because the statistics of an image have no running
    value to start from, and with equal weights they are half of SW^a's and four fifths of SW^b's;
    `output_change` says by how much an output changes, docs/own-networks.md what that is in 30
    networks. `mix="batch"` starts with all weight on the batch's statistics, where it is the
    network's own output too. `name` stands for the network in messages.

    Raises OptionError before anything is changed: for terms of `where` that choose nothing, a
    chosen norm that cannot be replaced (frozen ones, subclasses that do something more, instance
    norms, parametrised ones), and a group that does not divide a site's channels; UnknownName for a
    norm or solver that there is not; ValueError for another `mix`.
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
    """A copy of all but process groups, which are of the process and not of the network."""
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
    """`model` with each layer in all places of its site; the layer itself where the model is the
    norm.
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
    """The norm of what two networks differ by on `inputs`, over the norm of the first one's output;
    0 where they agree. Both stay in the mode they are in.
    """
    with torch.no_grad():
        pairs = list(zip(floating(before(*inputs)), floating(after(*inputs)), strict=True))
    difference = sum((a - b).double().square().sum() for a, b in pairs)
    reference = sum(a.double().square().sum() for a, _ in pairs)
    return (difference / reference).sqrt().item()
