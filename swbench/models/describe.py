"""The description of a placement: one row for each whitened site, read from the real network."""

from dataclasses import dataclass

import torch
from torch import nn

from swbench import models
from swbench.errors import OptionError
from swbench.models.named import option_errors
from swbench.models.norm_sites import choose
from swbench.models.outputs import floating
from swbench.models.sites import DEFAULT, Site, placement


@dataclass(frozen=True)
class WhitenedSite:
    """One site that carries the norm under test: the `path` of its norm, its output map in pixels,
    and the G×G matrices that one image needs there.
    """

    site: Site
    height: int
    width: int
    matrices: int
    path: str = ""


def describe(
    model: str,
    layers: int,
    image: tuple[int, int],
    group: int = 16,
    *,
    kind: str = DEFAULT,
    where: str | None = None,
) -> list[WhitenedSite]:
    """The sites of `model` that carry the norm under test when `layers` do, in the placement of
    that kind, or those that `where` chooses, for one image of (height, width). Where sites have
    only paths, stage and block are 0 and the index is the number of the norm.

    The network is run in eval mode, on the `meta` device if possible, so that nothing is computed.
    Raises UnknownName, or OptionError for a wrong count, an image too small, and a network that
    fails on its input.
    """
    models.check_image(model, image)
    chosen = () if where is not None or models.is_named(model) else placement(model, layers, kind)
    rows: list[WhitenedSite] = []

    def with_shape_hook(norm: nn.Module, site: Site) -> nn.Module:
        def record_shape(module: nn.Module, _inputs: tuple, y: torch.Tensor) -> None:
            path = next(path for path, child in network.named_modules() if child is module)
            rows.append(WhitenedSite(site, *y.shape[-2:], site.channels // group, path))

        norm.register_forward_hook(record_shape)
        return norm

    def norm_at(site: Site) -> nn.Module:
        norm = nn.BatchNorm2d(site.channels)
        return with_shape_hook(norm, site) if site.conv_index in chosen else norm

    def build() -> nn.Module:
        if where is None and not models.is_named(model):
            return models.build(model, norm_at=norm_at)
        built = models.build(model)
        for chosen_site in choose(built, where, model):
            with_shape_hook(
                chosen_site.module, Site(0, 0, chosen_site.number or 0, chosen_site.channels)
            )
        return built

    for device in ("meta", "cpu"):
        rows.clear()
        with torch.device(device):
            network = build().eval()
        if _can_run(network, model, 1, image, device):
            break
    return rows


def try_out(model: str, batch: int, image: tuple[int, int]) -> None:
    """Call the network as in a measurement, in training mode with `batch` images of (height,
    width).

    Raises OptionError, with the last line of the network's own error, if the call fails, and if no
    output has a gradient.
    """
    for device in ("meta", "cpu"):
        with torch.device(device):
            network = models.build(model).train()
        if _can_run(network, model, batch, image, device, gradients=True):
            return


def _can_run(
    network: nn.Module,
    model: str,
    batch: int,
    image: tuple[int, int],
    device: str,
    gradients: bool = False,
) -> bool:
    """Whether the network can be called on `device`. Raises OptionError where it fails on a real
    device.
    """
    size = f"{batch} image{'s' if batch > 1 else ''} of {image[0]}x{image[1]}"
    inputs = tuple(tensor.to(device) for tensor in models.inputs(model, batch, image))
    with torch.set_grad_enabled(gradients), torch.device(device):
        try:
            with option_errors(model, f"a call with {size}"):
                output = network(*inputs)
        except OptionError:
            if device != "meta":
                raise
            return False
    if gradients and not any(tensor.requires_grad for tensor in floating(output)):
        raise OptionError(
            f"{model} returns a {type(output).__name__} without a floating-point tensor that has a "
            "gradient, so there is no backward pass to measure"
        )
    return True
