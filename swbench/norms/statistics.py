"""The statistics a layer mixes, and how those of a batch are merged from those of its images."""

from typing import NamedTuple

import torch
from torch import Tensor


class Statistics(NamedTuple):
    """Biased central moments of N images in g groups of G channels, and of their batch.

    `share` is the weight of one image in the batch, HW / (number of pixels in the batch over all ranks); 0 where the batch
    statistics are constants (running ones, in eval mode). `alone` is True where the batch *is* the one image.
    A part that the recipe does not use is None.
    """

    mean: Tensor | None
    """(N, g, G), absolute."""
    cov: Tensor | None
    """(N, g, G, G)."""
    batch_mean: Tensor | None = None
    """(g, G), absolute."""
    batch_cov: Tensor | None = None
    """(g, G, G)."""
    share: float = 0.0
    alone: bool = False


def merge(mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (g, G) and biased covariance (g, G, G) of a batch from those of its images, (N, g, G) and (N, g, G, G).

    The mean of the covariances plus the covariance of the means (Chan, Golub and LeVeque 1983): nothing is subtracted that is
    larger than the spread itself.
    """
    if mean.shape[0] == 1:
        return mean[0], cov[0]
    batch_mean = mean.mean(0)
    apart = mean - batch_mean
    return batch_mean, torch.baddbmm(cov.mean(0), apart.permute(1, 2, 0), apart.transpose(0, 1), alpha=1 / mean.shape[0])
