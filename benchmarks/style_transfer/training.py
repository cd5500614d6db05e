"""Training one stylizing network: feature, Gram and total-variation losses, the same crops for
every norm.
"""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from benchmarks.style_transfer.features import gram
from benchmarks.style_transfer.images import crops
from swbench import models
from swbench.errors import OptionError

RANGE = 150 / 255
"""Amplitude of the scaled tanh that ends the network (Johnson et al. 2016, supplement): a little
more than half the range of a picture, so that black and white are reached.
"""
GAIN = 0.1
"""What the last convolution's output is multiplied by before the tanh. It has 2592 weights a
channel: without it, one step of Adam moves them all and saturates the tanh (a heuristic).
"""


@dataclass(frozen=True)
class Settings:
    """What decides a trained network, beside its norm and the images."""

    size: int = 256
    steps: int = 300
    batch: int = 2
    seed: int = 0
    learning_rate: float = 0.001
    style_weight: float = 2.0
    tv_weight: float = 1.0

    @property
    def crop(self) -> int:
        """Side of the training crops: half the picture's, and what the network takes at least."""
        return max(44, self.size // 8 * 4)


@dataclass(frozen=True)
class Trained:
    """One trained network: `losses` has a (content, style, total variation) triple a step."""

    network: nn.Module
    losses: list[tuple[float, float, float]] = field(repr=False)
    seconds_a_step: float


class Losses:
    """The three losses of a picture against a style, each relative to what it is compared with."""

    def __init__(self, features: nn.Module, style: Tensor) -> None:
        self.features = features
        with torch.no_grad():
            self.grams = [gram(layer_features) for layer_features in features(style[None])[0]]

    def __call__(self, pictures: Tensor, contents: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Content, style and total-variation loss, averaged over (N, 3, H, W) pictures.

        Content: squared distance of features over their squared norm. Style: the same of Gram
        matrices, averaged over the layers. Total variation: mean squared difference of neighbours.
        """
        with torch.no_grad():
            target = self.features(contents)[1]
        layers, content = self.features(pictures)
        style = [
            (gram(layer) - wanted).square().sum((1, 2)) / wanted.square().sum()
            for layer, wanted in zip(layers, self.grams, strict=True)
        ]
        across, down = pictures.diff(dim=3), pictures.diff(dim=2)
        return (
            (content - target).square().sum() / (target.square().sum() + 1e-12),
            torch.stack(style).mean(),
            across.square().mean() + down.square().mean(),
        )


def build(norm: str, seed: int) -> nn.Module:
    """The stylizing network with `norm` after all its convolutions but the last; the same `seed`
    gives every norm the same convolutions.
    """
    torch.manual_seed(seed)
    return models.build("stylizer", norm, layers=0 if norm == "bn" else 15)


def picture(network: nn.Module, images: Tensor) -> Tensor:
    """(N, 3, H, W) in [0, 1] -> the stylized pictures, some values a little outside [0, 1]."""
    return 0.5 + RANGE * torch.tanh(GAIN * network(images))


def stylized(network: nn.Module, image: Tensor) -> Tensor:
    """The picture (3, H, W) of one image, by the network in evaluation mode, cut to [0, 1]."""
    network.eval()
    with torch.no_grad():
        return picture(network, image[None])[0].clamp(0, 1)


def train(
    norm: str,
    images: list[Tensor],
    losses: Losses,
    settings: Settings,
    progress: Callable[[int, float], None],
) -> Trained:
    """Train a network from `settings.seed` with Adam, its learning rate falling to 0 as a cosine.

    `progress(step, loss)` is called after every step. Raises OptionError where the loss stops being
    a finite number.
    """
    network = build(norm, settings.seed).train()
    optimizer = torch.optim.Adam(network.parameters(), settings.learning_rate)
    generator = torch.Generator().manual_seed(settings.seed)
    history, times = [], []
    for step in range(settings.steps):
        start = time.perf_counter()
        optimizer.param_groups[0]["lr"] = (
            settings.learning_rate * (1 + math.cos(math.pi * step / settings.steps)) / 2
        )
        contents = crops(images, settings.crop, settings.batch, generator)
        content, style, variation = losses(picture(network, contents), contents)
        loss = content + settings.style_weight * style + settings.tv_weight * variation
        if not loss.isfinite():
            raise OptionError(
                f"{norm}: the loss is {loss.item()} at step {step + 1}; "
                f"try --learning-rate {settings.learning_rate / 4:g}"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append((content.item(), style.item(), variation.item()))
        times.append(time.perf_counter() - start)
        progress(step + 1, loss.item())
    return Trained(network, history, statistics.median(times))
