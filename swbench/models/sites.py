"""Where norms go: convolutions numbered in forward order, and which of them the paper whitens
(supplement, section B).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swbench.errors import OptionError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Site:
    """The place after one convolution, where a norm goes.

    `conv_index` counts the convolutions from 1 in forward order, those of down-sampling branches
    left out. The stem is stage 0; stages count from 1 and blocks from 0, as in the module names
    (`layer3.0`).
    """

    stage: int
    block: int
    conv_index: int
    channels: int


NormAt = Callable[[Site], "nn.Module"]
"""Decides the norm of a site."""


class Sites:
    """Numbers the sites of a network while it is built, and asks `norm_at` for the norm of each."""

    def __init__(self, norm_at: NormAt) -> None:
        self._norm_at = norm_at
        self._count = 0

    def norm(self, stage: int, block: int, channels: int) -> "nn.Module":
        """The norm after the next convolution, which has `channels` output channels."""
        self._count += 1
        return self._norm_at(Site(stage, block, self._count, channels))


def _first_and_every(step: int, last: int) -> tuple[int, ...]:
    """The 1st convolution and each {step·n}th up to `last`."""
    return (1, *range(step, last + 1, step))


# the last convolution before the 2048-channel stage, which the paper leaves alone
_RESNET50_LAST = 40
_RESNET50 = {7: _first_and_every(6, _RESNET50_LAST), 14: _first_and_every(3, _RESNET50_LAST)}
# the last layer is the classifier
_CIFAR = {f"resnet{depth}": _first_and_every(4, depth - 1) for depth in (20, 32, 44, 56, 110)}

PLACEMENTS: dict[str, dict[int, tuple[int, ...]]] = {
    "resnet50": _RESNET50,
    "resnet50-seg": _RESNET50,
    **{name: {len(sites): sites} for name, sites in _CIFAR.items()},
    "stylizer": {15: tuple(range(1, 16))},
}
"""Model -> number of layers that carry the norm under test -> their convolution numbers."""


NARROWEST = {"resnet50": 64, "resnet50-seg": 64, **dict.fromkeys(_CIFAR, 16), "stylizer": 32}
"""Channels of the first site, which is in every placement; all other sites have a multiple of
them.
"""


def placement(model: str, layers: int) -> tuple[int, ...]:
    """The convolution numbers of the `layers` sites of `model` that carry the norm under test;
    empty for 0.

    Raises OptionError, naming the counts there are, for any other count. A model added without a
    placement has count 0 alone.
    """
    known = {0: (), **PLACEMENTS.get(model, {})}
    if layers not in known:
        raise OptionError(
            f"{model} has no placement of {layers} layers; layers must be "
            f"{' or '.join(map(str, known))}"
        )
    return known[layers]


def check_group(model: str, group: int) -> None:
    """Raise OptionError where groups of `group` channels do not divide the whitened layers of
    `model`. Imports no torch.
    """
    channels = NARROWEST.get(model)
    if channels is not None and (group < 1 or channels % group):
        raise OptionError(
            f"groups of {group} channels do not divide the {channels} channels of "
            f"the first whitened layer of {model}"
        )
