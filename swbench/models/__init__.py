"""The registry of networks. To add one: a file with a factory `(norm_at, num_classes) ->
nn.Module`, and a line in this table.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from swbench.errors import OptionError
from swbench.models.sites import (
    DEFAULT,
    KINDS,
    NARROWEST,
    PLACEMENTS,
    NormAt,
    Site,
    check_group,
    placement,
    placements,
)
from swbench.registry import Registry

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

__all__ = [
    "DEFAULT",
    "KINDS",
    "PLACEMENTS",
    "TABLE",
    "NormAt",
    "Site",
    "add",
    "build",
    "check_group",
    "check_image",
    "check_name",
    "inputs",
    "is_named",
    "minimum_side",
    "names",
    "placement",
    "placements",
]

TABLE = Registry(
    "model",
    {
        "resnet50": "swbench.models.resnet:ResNet50",
        "resnet101": "swbench.models.resnet:ResNet101",
        "resnet50-seg": "swbench.models.segmentation:SegmentationResNet50",
        "resnet20": "swbench.models.cifar:resnet20",
        "resnet32": "swbench.models.cifar:resnet32",
        "resnet44": "swbench.models.cifar:resnet44",
        "resnet56": "swbench.models.cifar:resnet56",
        "resnet110": "swbench.models.cifar:resnet110",
        "stylizer": "swbench.models.stylizer:Stylizer",
    },
)

_STRIDES = {"resnet50": 32, "resnet101": 32, "resnet50-seg": 8} | {
    f"resnet{depth}": 4 for depth in (20, 32, 44, 56, 110)
}

Inputs = Callable[[int, tuple[int, int], "Generator"], "Tensor | tuple[Tensor, ...]"]
"""A function of the batch size, the image's (height, width) and a random generator that makes the
inputs of a network, in the order of the arguments of `forward`. The batch is dimension 0.
"""

_INPUTS: dict[str, Inputs] = {}


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
    inputs: Inputs | None = None,
) -> None:
    """Register your own network: `target(norm_at, num_classes)` returns a module, whose output is a
    tensor, or tensors in a tuple, list, mapping or dataclass.

    Its input is images (N, 3, H, W), or the result of `inputs(batch, image, generator)`.

    It calls `norm_at(Site(…))` for the norms that can be exchanged, or uses `swapping.swap_norms`.
    `placements` maps a number of layers to the sites that carry the norm under test: with
    `{2: (1, 4)}`, `layers = 2` is sites 1 and 4. Without placements the network has batch
    normalisation alone. With `narrowest` (channels of the narrowest site) and `stride` (of the last
    map relative to the image), errors are reported before anything is built. Raises ValueError if
    the name is taken, or a placement has another number of sites than its key.
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
    if inputs is not None:
        _INPUTS[name] = inputs


def build(
    model: str,
    norm: str = "bn",
    layers: int = 0,
    solver: str = "auto",
    num_classes: int | None = None,
    group: int = 16,
    norm_at: NormAt | None = None,
    placement: str = DEFAULT,
    where: str | None = None,
) -> "nn.Module":
    """Build the network `model` with `norm` after `layers` of its convolutions (`sites.placement`,
    of the kind `placement`) and batch normalisation after all others; or with `norm` at the norms
    that `where` chooses (`norm_sites.choose`).

    `timm:NAME`, `torchvision:NAME` and `package.module:callable` are networks too, of their own
    number of classes, where the command line named them (`named`).

    `num_classes` None is the model's own number (1000, 19 or 10; 1000 where a factory
    has none); the stylizer takes none. `group`
    channels share a whitening matrix and `solver` computes it. `norm_at`, a function from `Site` to
    module, decides every norm itself and leaves `norm`, `layers`, `solver` and `group` unused.
    Weights are freshly initialised on the default device. Raises UnknownName, or OptionError for a
    count of layers that the model has no placement for, or that `where` does not choose; ValueError
    where `norm_at` and `layers` are both given.
    """
    if where is not None or is_named(model):
        return _converted(model, norm, layers, solver, num_classes, group, where)
    factory = TABLE.load(model)
    if norm_at is None:
        norm_at = _norms(model, norm, layers, solver, group, placement)
    elif layers:
        raise ValueError(
            f"norm_at decides every norm itself, so layers={layers} has no meaning beside it"
        )
    if num_classes is None and _wants_classes(factory):
        num_classes = 1000
    return factory(norm_at) if num_classes is None else factory(norm_at, num_classes)


def _converted(
    model: str,
    norm: str,
    layers: int,
    solver: str,
    num_classes: int | None,
    group: int,
    where: str | None,
) -> "nn.Module":
    """Build the original network, and put `norm` at the norms that `where` chooses."""
    if is_named(model):
        from swbench.models import named

        network = named.build(model)
    else:
        network = build(model, num_classes=num_classes)
    if norm == "bn":
        return network
    from swbench.models.convert import convert_norms
    from swbench.models.norm_sites import choose

    count = len(choose(network, where, model))
    if layers not in (0, count):
        raise OptionError(f"--where {where} chooses {count} norms of {model}, not {layers}")
    return convert_norms(network, norm, where, group=group, solver=solver, inplace=True, name=model)


def is_named(model: str) -> bool:
    """Whether `model` is `timm:NAME`, `torchvision:NAME` or `package.module:callable` and no name
    of the table. Imports nothing.
    """
    return ":" in model


def check_name(model: str) -> None:
    """Raise UnknownName for a name that is neither in the table nor one of those to import."""
    if not is_named(model):
        TABLE.check(model)


def inputs(
    model: str, batch: int, image: tuple[int, int], generator: "Generator | None" = None
) -> "tuple[Tensor, ...]":
    """Random inputs of `model`, in the order of the arguments of its `forward`: images
    (`batch`, 3, height, width), or what the model's own `inputs` hook makes.

    Raises OptionError where the hook fails, or gives something else than tensors.
    """
    import torch

    from swbench.models.named import inputs_of, option_errors

    generator = torch.Generator() if generator is None else generator
    hook = inputs_of(model) if is_named(model) else _INPUTS.get(model)
    if hook is None:
        return (torch.randn((batch, 3, *image), generator=generator),)
    with option_errors(model, "its inputs hook"):
        made = hook(batch, image, generator)
    made = made if isinstance(made, tuple) else (made,)
    if not all(isinstance(tensor, torch.Tensor) for tensor in made):
        kinds = ", ".join(type(tensor).__name__ for tensor in made)
        raise OptionError(f"the inputs hook of {model} must give tensors, not {kinds}")
    return made


def _wants_classes(factory: Callable) -> bool:
    """Whether a factory, such as a plugin's, has no default number of classes."""
    try:
        inspect.signature(factory).bind(None)
    except TypeError:
        return True
    except ValueError:  # a callable in C without a signature
        return False
    return False


def _norms(
    model: str, norm: str, layers: int, solver: str, group: int, kind: str = DEFAULT
) -> NormAt:
    from torch import nn

    chosen = placement(model, layers, kind)
    if norm == "bn":
        return lambda site: nn.BatchNorm2d(site.channels)
    from swbench import norms

    norms.TABLE.check(norm)
    if not chosen:
        counts = " or ".join(map(str, placements(model, kind)))
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
    check_name(model)
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
