"""A small classification task with generated data, whose network has two normalised layers in a
row. It shows what a layer does to training, and when training breaks.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

CLASSES, SIDE, COLOURS, PATCH = 8, 8, 3, 3
"""Classes, pixels a side, colours of an image, pixels a side of a filter of the first layer."""

NOISE = 0.5
"""Standard deviation of the noise that is added to a pattern of standard deviation 1."""

FINAL_STEPS = 30
"""Steps at the end whose mean loss is the final loss; the loss of one step is that of one batch."""

CHANCE = math.log(CLASSES)
"""The loss of a network that gives all classes the same probability."""

LEARNT = 0.9
"""A network whose final loss is more than this share of `CHANCE` has learnt nothing. Heuristic:
instance whitening, which learns least on this task, ends at 0.87 to 0.89.
"""


class Task:
    """A network, its optimiser and its data, ready for `step`.

    Each class is a random pattern; an image is its class's, rolled by a random offset, with noise.
    Network: 3×3 filters to G channels, norm, ReLU, 1×1 filters to G channels, norm, ReLU, mean over
    the image, linear. Stochastic gradient descent at a constant rate, with a gradient scaler under
    autocast to float16, as is usual there. Data and initial weights depend on the seed alone.
    """

    def __init__(
        self,
        norm: Callable[[int], nn.Module],
        *,
        group: int,
        batch: int,
        dtype: torch.dtype,
        autocast: Callable[[], AbstractContextManager],
        learning_rate: float,
        device: str,
        seed: int,
    ) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._autocast, self._batch, self._like = autocast, batch, torch.empty(0, dtype=dtype)
        self._like = self._like.to(device)
        self._patterns = self._normal(CLASSES, COLOURS, SIDE, SIDE)
        first, second, last = (
            self._normal(columns, rows) / math.sqrt(rows)
            for columns, rows in ((group, COLOURS * PATCH**2), (group, group), (CLASSES, group))
        )
        self.network = nn.Sequential(
            Filters(first), norm(group), nn.ReLU(), Filters(second), norm(group), nn.ReLU()
        ).to(device=device, dtype=dtype)
        self.last = nn.Parameter(last.to(self._like))
        self._optimiser = torch.optim.SGD(self.parameters(), lr=learning_rate)
        with autocast():
            kind = self._like.device.type
            narrow = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
        self._scaler = torch.amp.GradScaler(device, enabled=narrow is torch.float16)

    def step(self) -> Tensor:
        """One step on a fresh batch; the cross-entropy before it, (), not yet fetched from the
        device.
        """
        patches, classes = self.data()
        self._optimiser.zero_grad()
        with self._autocast():
            scores = self.network(patches).mean((2, 3)) @ self.last.mT
        loss = nn.functional.cross_entropy(scores.float(), classes)
        self._scaler.scale(loss).backward()
        self._scaler.step(self._optimiser)
        self._scaler.update()
        return loss.detach()

    def data(self) -> tuple[Tensor, Tensor]:
        """The 3×3 patches around each pixel of a batch of images, (N, 27, 8, 8), and classes."""
        classes = torch.randint(CLASSES, (self._batch,), generator=self._generator)
        offsets = torch.randint(SIDE, (self._batch, 2), generator=self._generator).tolist()
        images = torch.stack(
            [
                self._patterns[k].roll(offset, (1, 2))
                for k, offset in zip(classes.tolist(), map(tuple, offsets), strict=True)
            ]
        )
        images = images + NOISE * self._normal(*images.shape)
        patches = nn.functional.unfold(images, PATCH, padding=PATCH // 2)
        patches = patches.view(self._batch, -1, SIDE, SIDE)
        return patches.to(self._like), classes.to(self._like.device)

    def parameters(self) -> list[Tensor]:
        """All trainable parameters."""
        return [*self.network.parameters(), self.last]

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator)


class Filters(nn.Module):
    """1×1 filters: products of matrices, which are quick in every dtype on every device."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        """(N, rows of the weight, H, W)."""
        return (self.weight @ x.flatten(2)).view(len(x), -1, *x.shape[2:])


class TrainingOutcome(NamedTuple):
    """(final loss, whether training broke, the exception that broke it or ""). The loss is not
    finite where training ended early.
    """

    loss: float
    broken: bool
    reason: str = ""


def train(task: Task, steps: int) -> TrainingOutcome:
    """Train for `steps` steps, or until a loss is not finite or the network raises.

    It broke where that happened, where a parameter is not finite in the end, or where the mean loss
    of the last `FINAL_STEPS` steps is above `LEARNT` of that at chance.
    """
    losses = []
    try:
        for _ in range(steps):
            losses.append(task.step().item())
            if not math.isfinite(losses[-1]):
                return TrainingOutcome(math.nan, True)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as problem:  # eigh raises for a covariance that is not finite
        return TrainingOutcome(math.nan, True, exception_line(problem))
    finite = all(parameter.isfinite().all() for parameter in task.parameters())
    final = sum(losses[-FINAL_STEPS:]) / len(losses[-FINAL_STEPS:])
    return TrainingOutcome(final, not finite or final > LEARNT * CHANCE)


def exception_line(problem: Exception) -> str:
    """An exception in one line."""
    return f"{type(problem).__name__}: {' '.join(str(problem).split())[:200]}"
