"""What a placement whitens: one row a site, read off the real network."""

from dataclasses import dataclass

import torch
from torch import nn

from swbench import models
from swbench.models.sites import Site, placement


@dataclass(frozen=True)
class WhitenedSite:
    """One site that carries the norm under test: its output map in pixels, and the G×G matrices
    that one image needs there.
    """

    site: Site
    height: int
    width: int
    matrices: int


def describe(
    model: str, layers: int, image: tuple[int, int], group: int = 16
) -> list[WhitenedSite]:
    """The sites of `model` that carry the norm under test when `layers` do, for one image of
    (height, width).

    The network is walked on the `meta` device: nothing is computed. Raises UnknownName, or
    OptionError for a wrong count or an image too small.
    """
    models.check_image(model, image)
    chosen = placement(model, layers)
    rows: list[WhitenedSite] = []

    def norm_at(site: Site) -> nn.Module:
        norm = nn.BatchNorm2d(site.channels)
        if site.conv_index in chosen:
            norm.register_forward_hook(
                lambda _module, _inputs, y: rows.append(
                    WhitenedSite(site, *y.shape[-2:], site.channels // group)
                )
            )
        return norm

    with torch.device("meta"), torch.no_grad():
        models.build(model, norm_at=norm_at)(torch.empty(1, 3, *image))
    return rows
