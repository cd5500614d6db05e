"""What a whitening layer mixes: the statistics by name, the group size, ε, and the constant tensors
that follow from them.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from swbench.solvers.kept import capturing

BATCH, IMAGE = ("bw", "bn"), ("iw", "in", "ln")
FULL, DIAGONAL = ("bw", "iw"), ("bn", "in")
LAYER = "ln"


@dataclass(frozen=True)
class Recipe:
    """The `statistics` (of bw, iw, bn, in, ln) that a layer mixes, in the order of its weights;
    `group` = G; `eps` = ε.

    Means: bw and bn the batch's, iw and in the image's, ln that of the whole image. Covariances:
    bw, iw full; bn, in their diagonals; ln σ²·I (Pan et al. 2019, §3.1). One statistic alone has no
    weights.
    """

    statistics: tuple[str, ...]
    group: int
    eps: float

    uses_batch: bool = field(init=False, repr=False, compare=False)
    """Whether the batch's statistics enter (and running ones are kept)."""
    uses_image: bool = field(init=False, repr=False, compare=False)
    """Whether an image's own statistics enter, so that every image has matrices of its own."""
    layer_index: int | None = field(init=False, repr=False, compare=False)
    """The position of `ln` among the statistics, None without it."""
    eps_text: str = field(init=False, repr=False, compare=False)
    """ε in digits, all of them: a compiler may take a number to be one that changes, but not a
    text.
    """
    all_full: bool = field(init=False, repr=False, compare=False)
    """Whether every covariance is a full one."""

    def __post_init__(self) -> None:
        # Plain attributes, which a compiler can read where it cannot read a cached property.
        of = self.statistics
        for name, value in (
            ("uses_batch", any(s in BATCH for s in of)),
            ("uses_image", any(s in IMAGE for s in of)),
            ("layer_index", of.index(LAYER) if LAYER in of else None),
            ("eps_text", repr(float(self.eps))),
            ("all_full", all(s in FULL for s in of)),
        ):
            object.__setattr__(self, name, value)


class Basis(NamedTuple):
    """Constant tensors of a recipe of K statistics, for S sources (batch, image, or both in this
    order).
    """

    eps_eye: Tensor
    """ε·I, (G, G)."""
    eye: Tensor
    """I, (G, G)."""
    mean: Tensor
    """(K, S), and one more column if there is a layer statistic: 1 where statistic k takes its mean
    from that source.
    """
    cov: Tensor
    """(K, S·G·G): what multiplies a source's covariance element by element: all ones (full), I
    (diagonal), or zero.
    """


_KEPT: dict[tuple[Recipe, int, torch.dtype, torch.device], Basis] = {}
"""For good: a captured graph reads this memory in each replay."""


def basis(recipe: Recipe, sources: int, like: Tensor) -> Basis:
    """The constants of `recipe` beside `like`. With one source every statistic but `ln` is taken
    from it; with two, batch and image are apart.

    They are kept for the next call, unless `like` is no plain tensor, for a fake one would be found
    by real ones later, or a CUDA graph is captured: that fills what is made in it in each replay,
    and not before.
    """
    key = recipe, sources, like.dtype, like.device
    if type(like) is not Tensor:
        return _built(*key)
    found = _KEPT.get(key)
    if found is None:
        found = _built(*key)
        if not capturing(like.device):
            _KEPT[key] = found
    return found


def _built(recipe: Recipe, sources: int, dtype: torch.dtype, device: torch.device) -> Basis:
    group = recipe.group
    eye = torch.eye(group, dtype=dtype, device=device)
    rows, columns = len(recipe.statistics), sources + (recipe.layer_index is not None)
    mean = torch.zeros(rows, columns, dtype=dtype, device=device)
    cov = torch.zeros(rows, sources, group, group, dtype=dtype, device=device)
    for k, name in enumerate(recipe.statistics):
        if name == LAYER:
            mean[k, sources] = 1
            continue
        source = 1 if sources == 2 and name in IMAGE else 0
        mean[k, source] = 1
        cov[k, source] = 1 if name in FULL else eye
    # Filled, not multiplied: a FLOP count must not depend on whether they were kept already.
    eps_eye = torch.diag_embed(torch.full((group,), recipe.eps, dtype=dtype, device=device))
    return Basis(eps_eye, eye, mean, cov.view(rows, -1))
