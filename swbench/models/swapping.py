"""Giving the norms of a network that knows nothing of `norm_at` to it: every batch normalisation
becomes a site.
"""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from swbench.models.sites import NormAt, Site


def swap_norms(model: nn.Module, norm_at: NormAt, skip: Sequence[str] = ()) -> nn.Module:
    """`model` with every `nn.BatchNorm2d` replaced by what `norm_at` gives for it; the model
    itself, changed.

    Sites count from 1 in the order in which the model holds its norms (`model.named_modules()`),
    stage and block are 0. `skip` are globs over module paths (`*downsample*`) whose norms stay as
    they are and do not count.
    """
    norms = [path for path, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)]
    chosen = [path for path in norms if not any(fnmatchcase(path, glob) for glob in skip)]
    for index, path in enumerate(chosen, start=1):
        parent, _, name = path.rpartition(".")
        before = model.get_submodule(path)
        setattr(model.get_submodule(parent), name, norm_at(Site(0, 0, index, before.num_features)))
    return model
