"""Applying `norm_at` to a network that was not built with it: every batch normalisation becomes a
site.
"""

from collections.abc import Sequence

from torch import nn

from swbench.errors import OptionError
from swbench.models.convert import replace
from swbench.models.norm_sites import NormSite, norm_sites
from swbench.models.sites import NormAt, Site
from swbench.norms.replacement import move_hooks, reason_not_replaceable, transfer_state


def swap_norms(model: nn.Module, norm_at: NormAt, skip: Sequence[str] = ()) -> nn.Module:
    """Replace each batch normalisation of `model`, in place, by the result of `norm_at`.

    Sites count from 1 in the order in which the model holds its norms (`model.named_modules()`),
    stage and block are 0. `skip` are globs over module paths (`*downsample*`) whose norms stay as
    they are and do not count. Where `norm_at` returns a plain `nn.BatchNorm2d`, the original
    norm is kept, with its activation if it has one. Any other layer starts from the state of the
    norm (`norms.replacement.transfer_state`). Raises OptionError if a norm cannot be replaced.
    """
    layers = [
        (site, norm_at(Site(0, 0, site.number, site.channels)))
        for site in norm_sites(model, skip)
        if site.number is not None
    ]
    layers = [(site, layer) for site, layer in layers if not _is_unchanged(site, layer)]
    for site, _ in layers:
        if problem := reason_not_replaceable(site.module):
            raise OptionError(
                f"{site.path} ({type(site.module).__name__}) {problem}; leave it out of the "
                f"placement, or with skip=({site.path!r},)"
            )
    return replace(model, [(site, transfer_state(site.module, layer)) for site, layer in layers])


def _is_unchanged(site: NormSite, layer: nn.Module) -> bool:
    """Whether the norm of the site is kept. Hooks on the new layer are moved to it then."""
    if type(layer) is not nn.BatchNorm2d:
        return False
    move_hooks(layer, site.module)
    return True
