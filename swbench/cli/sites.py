"""The sites of a network as lines of text, for `check` and `list models -v`."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from swbench.cli.lazy import model_sites, suite
from swbench.cli.options import ImageList
from swbench.errors import OptionError, printable

if TYPE_CHECKING:
    from swbench.models.describe import WhitenedSite

DEFAULT_IMAGE = (224, 224)

_IMAGES = {"resnet50-seg": (713, 713), "stylizer": (256, 256)} | {
    f"resnet{depth}": (32, 32) for depth in (20, 32, 44, 56, 110)
}
"""The paper's image sizes that are not 224×224."""


def model_options(command: Any) -> Any:
    """A decorator that gives a command the options that name a network and its sites."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = (
    click.option(
        "--model",
        help="A network: timm:NAME, torchvision:NAME, package.module:callable (imported because "
        "you name it here), or one of `list models`.",
    ),
    click.option("--where", help="With --model: which of its norms.  [default: all]"),
    click.option(
        "--image", "images", type=ImageList(), help="With --model: pixels, 224 or 224x160."
    ),
    click.option(
        "--group",
        type=click.IntRange(1, 1024),
        default=16,
        show_default=True,
        help="Channels that share a whitening matrix, for the count of matrices.",
    ),
)


def of_model(
    model: str, where: str | None, images: Sequence[Sequence[int]] | None, group: int
) -> Iterator[str]:
    """The norms of a network that `where` chooses, for each image size."""
    suite.permission(model)
    for image in images or (image_of(model),):
        size = (image[0], image[1])
        sites = model_sites.describe(model, 0, size, group, where=where or "every=1")
        numbers = len({site.site.conv_index for site in sites})
        words = f"{numbers} norm{'s' if numbers != 1 else ''}"
        yield from table(f"{printable(model)}: {words}", sites, size, group)


def of_placement(
    model: str, layers: int, group: int = 16, kind: str = "default", image: Any = None
) -> Iterator[str]:
    """The sites of one placement of a network in the table of models."""
    size = image or image_of(model)
    sites = model_sites.describe(model, layers, size, group, kind=kind)
    title = f"{model}: {layers} whitened convolutions"
    title += "" if kind == "default" else f" ({kind} placement)"
    yield from table(title, sites, size, group)


def image_of(model: str) -> tuple[int, int]:
    """The default (height, width) of a model."""
    return _IMAGES.get(model, DEFAULT_IMAGE)


def table(
    title: str, sites: "Sequence[WhitenedSite]", image: tuple[int, int], group: int
) -> Iterator[str]:
    """A line on all `sites`, and one on each: its channels, map size and matrices of an image."""
    divisible = [site for site in sites if site.site.channels % group == 0]
    matrices = sum(site.matrices for site in divisible)
    undivided_count = len(sites) - len(divisible)
    undivided = f", {undivided_count} of them not divided by {group}" if undivided_count else ""
    yield (
        f"  {title}{undivided}, {matrices} matrices of {group}x{group} an image of "
        f"{image[0]}x{image[1]}"
    )
    yield "    conv  stage block  channels       map  matrices  path"
    for site in sites:
        at, size = site.site, f"{site.height}x{site.width}"
        count = str(site.matrices) if at.channels % group == 0 else "-"
        yield (
            f"    {at.conv_index:4d}  {at.stage:5d} {at.block:5d}  {at.channels:8d}  {size:>8s}  "
            f"{count:>8s}  {printable(site.path)}"
        )


def require_model(model: str | None, where: str | None, images: Any) -> None:
    """Raises OptionError where --where or --image is given without --model."""
    if model is None and (where or images):
        raise OptionError(f"{'--where' if where else '--image'} needs --model")
