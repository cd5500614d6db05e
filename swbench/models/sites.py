"""Sites of norms: convolutions numbered in forward order, and those that the paper whitens
(supplement, section B).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swbench.errors import OptionError, UnknownName

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
"""A function that builds the norm of a site."""


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
    "resnet101": {},
    "stylizer": {15: tuple(range(1, 16))},
}
"""Model -> number of layers that carry the norm under test -> their convolution numbers."""


def _odd_blocks(*blocks: int) -> tuple[int, ...]:
    """The 1st convolution, and the second of every odd block (from 0) of stages with so many
    bottleneck blocks of three convolutions.
    """
    sites, conv_count = [1], 1
    for count in blocks:
        sites += [conv_count + 3 * block + 2 for block in range(1, count, 2)]
        conv_count += 3 * count
    return tuple(sites)


_PUBLIC = {
    model: {len(sites): sites}
    for model, sites in (
        ("resnet50", _odd_blocks(3, 4, 6)),
        ("resnet101", _odd_blocks(3, 4, 23)),
    )
}
"""The networks of the public code (XingangPan/Switchable-Whitening, `resnet.py`), stages 1 to 3."""

DEFAULT, PUBLIC = "default", "public"
KINDS = (DEFAULT, PUBLIC)
"""Kinds of placements: that of the supplement (or of the plugin that added the model), and that of
the authors' public code and checkpoints.
"""


def placements(model: str, kind: str = DEFAULT) -> dict[int, tuple[int, ...]]:
    """Number of layers -> their convolution numbers, in the placement of that kind."""
    return (_PUBLIC if kind == PUBLIC else PLACEMENTS).get(model, {})


NARROWEST = {
    "resnet50": 64,
    "resnet50-seg": 64,
    "resnet101": 64,
    **dict.fromkeys(_CIFAR, 16),
    "stylizer": 32,
}
"""Channels of the first site, which is in every placement; all other sites have a multiple of
them.
"""


def placement(model: str, layers: int, kind: str = DEFAULT) -> tuple[int, ...]:
    """The convolution numbers of the `layers` sites of `model` that carry the norm under test;
    empty for 0.

    Raises OptionError, naming the counts there are, for any other count, and UnknownName for a kind
    not in `KINDS`. A model added without a placement has count 0 alone.
    """
    if kind not in KINDS:
        raise UnknownName("placement", kind, KINDS)
    known = {0: (), **placements(model, kind)}
    if layers not in known:
        other_placements = [
            f"placement {other_kind!r} has {' or '.join(map(str, placements(model, other_kind)))}"
            for other_kind in KINDS
            if other_kind != kind and layers in placements(model, other_kind)
        ]
        raise OptionError(
            f"{model} has no {'public ' if kind == PUBLIC else ''}placement of {layers} layers; "
            f"layers must be {' or '.join(map(str, known))}"
            + (f" ({other_placements[0]})" if other_placements else "")
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
