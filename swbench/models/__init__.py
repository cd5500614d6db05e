"""Networks by name. To add one: a file with a factory `(norm_at, num_classes) -> nn.Module`, and a
line in this table.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from swbench.errors import OptionError
from swbench.models.sites import NARROWEST, PLACEMENTS, NormAt, Site, check_group, placement
from swbench.registry import Registry

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "PLACEMENTS",
    "TABLE",
    "NormAt",
    "Site",
    "add",
    "build",
    "check_group",
    "check_image",
    "minimum_side",
    "names",
    "placement",
]

TABLE = Registry(
    "model",
    {
        "resnet50": "swbench.models.resnet:ResNet50",
        "resnet50-seg": "swbench.models.segmentation:SegmentationResNet50",
        "resnet20": "swbench.models.cifar:resnet20",
        "resnet32": "swbench.models.cifar:resnet32",
        "resnet44": "swbench.models.cifar:resnet44",
        "resnet56": "swbench.models.cifar:resnet56",
        "resnet110": "swbench.models.cifar:resnet110",
        "stylizer": "swbench.models.stylizer:Stylizer",
    },
)

_STRIDES = {"resnet50": 32, "resnet50-seg": 8} | {
    name: 4 for name in TABLE if name in PLACEMENTS and name[6:].isdigit() and name != "resnet50"
}


def names() -> tuple[str, ...]:
    """Every registered model, without importing any."""
    return TABLE.names()


def add(
    name: str,
    target: object,
    *,
    placements: Mapping[int, Sequence[int]] | None = None,
    narrowest: int | None = None,
    stride: int = 0,
) -> None:
    """Register a network of one's own: a class or function called as `target(norm_at, num_classes)`
    that gives a module, images (N, 3, H, W) in, a tensor out.

    It asks `norm_at(Site(…))` for the norms it wants exchanged, or leaves that to
    `swapping.swap_norms`. `placements` says which of its sites carry the norm under test, by their
    count: `{2: (1, 4)}` makes `layers = 2` sites 1 and 4; without any, it runs with batch
    normalisation alone. `narrowest` (channels of the narrowest site) and `stride` (of the last map
    against the image) let mistakes be told before anything is built. Raises ValueError if the name
    is taken, or a placement does not have as many sites as it says.
    """
    places = {int(layers): tuple(sites) for layers, sites in (placements or {}).items()}
    for layers, sites in places.items():
        if layers < 1 or len(set(sites)) != layers or min(sites, default=0) < 1:
            raise ValueError(
                f"placements of {name!r}: {layers} layers need {layers} different site "
                f"numbers from 1, not {sites}"
            )
    TABLE.add(name, target)
    PLACEMENTS[name] = places
    if narrowest is not None:
        NARROWEST[name] = narrowest
    _STRIDES[name] = stride


def build(
    model: str,
    norm: str = "bn",
    layers: int = 0,
    solver: str = "auto",
    num_classes: int | None = None,
    group: int = 16,
    norm_at: NormAt | None = None,
) -> "nn.Module":
    """The network `model` with `norm` after `layers` of its convolutions (`placement`) and batch
    normalisation after all others.

    `num_classes` None is the model's own number (1000, 19 or 10); the stylizer has none. `group`
    channels share a whitening matrix and `solver` computes it. `norm_at`, a function from `Site` to
    module, decides every norm itself and leaves `norm`, `layers`, `solver` and `group` unused.
    Weights are freshly initialised on the default device. Raises UnknownName, or OptionError for a
    count of layers that the model has no placement for; ValueError where `norm_at` and `layers` are
    both given.
    """
    factory = TABLE.load(model)
    if norm_at is None:
        norm_at = _norms(model, norm, layers, solver, group)
    elif layers:
        raise ValueError(
            f"norm_at decides every norm itself, so layers={layers} has no meaning beside it"
        )
    return factory(norm_at) if num_classes is None else factory(norm_at, num_classes)


def _norms(model: str, norm: str, layers: int, solver: str, group: int) -> NormAt:
    from torch import nn

    chosen = placement(model, layers)
    if norm == "bn":
        return lambda site: nn.BatchNorm2d(site.channels)
    from swbench import norms

    norms.TABLE.check(norm)
    if not chosen:
        counts = " or ".join(map(str, PLACEMENTS.get(model, {})))
        raise OptionError(
            f"norm {norm!r} on 0 layers of {model} is batch normalisation; layers "
            f"must be {counts or 'given by norm_at'}"
        )

    def at(site: Site) -> nn.Module:
        if site.conv_index in chosen:
            return norms.build(norm, site.channels, group=group, solver=solver)
        return nn.BatchNorm2d(site.channels)

    return at


def minimum_side(model: str, batch: int = 1) -> int:
    """The smallest image side in pixels that `model` trains on: at batch 1, batch normalisation
    needs more than one pixel in every map.
    """
    TABLE.check(model)
    if model == "stylizer":
        return 41  # its reflection padding of 40 pixels needs more than 40
    return _STRIDES.get(model, 0) + 1 if batch == 1 else 1


def check_image(model: str, image: tuple[int, int], batch: int = 1) -> None:
    """Raise OptionError, with the minimum, where `image` (height, width) is too small for `model`.
    Imports no torch.
    """
    least = minimum_side(model, batch)
    if min(image) < least:
        raise OptionError(
            f"image {image[0]}x{image[1]} is too small for {model} at batch "
            f"{batch}; both sides must be at least {least} pixels"
        )
