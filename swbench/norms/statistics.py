"""The statistics that a layer mixes, and merging those of a batch from those of its images."""

from typing import NamedTuple

import torch
from torch import Tensor


class Statistics(NamedTuple):
    """Means and biased covariances of N images in g groups of G channels, and of their batch.

    `share` is the weight of one image in the batch, 1/N; 0 where the batch statistics are constants
    (running ones, in eval mode). `single_image` is True where the batch is one image. `rank_share`
    is the share of this rank in the pixels of a batch distributed over ranks; None where the batch
    is in one process. A statistic that the recipe does not use is None.
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
    single_image: bool = False
    rank_share: Tensor | None = None
    """()."""


def merge(mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (g, G) and biased covariance (g, G, G) of a batch from those of its images, (N, g, G)
    and (N, g, G, G).

    The mean of the covariances plus the covariance of the means (Chan, Golub and LeVeque 1983):
    nothing larger than the covariance itself is subtracted.
    """
    if mean.shape[0] == 1:
        return mean[0], cov[0]
    batch_mean = mean.mean(0)
    deviation = mean - batch_mean
    return batch_mean, torch.baddbmm(
        cov.mean(0), deviation.permute(1, 2, 0), deviation.transpose(0, 1), alpha=1 / mean.shape[0]
    )


def merge_parts(count: Tensor, mean: Tensor, cov: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (g, G) and biased covariance (g, G, G) of R parts from theirs, (R, g, G) and (R, g, G,
    G). `count` (R,) is the number of pixels of each part and may be 0; if all of them are 0, so is
    the result.

    Means are taken relative to that of the largest part, which needs no common shift and does not
    synchronise with the device.
    """
    weight = (count / count.sum().clamp(min=1)).view(-1, 1, 1)
    reference = mean.index_select(0, count.argmax().view(1))
    deviation = mean - reference
    centre = (weight * deviation).sum(0)
    deviation = deviation - centre
    batch_cov = torch.baddbmm(
        (weight.unsqueeze(-1) * cov).sum(0),
        (weight * deviation).permute(1, 2, 0),
        deviation.transpose(0, 1),
    )
    return reference[0] + centre, batch_cov


def update_running(
    running_mean: Tensor,
    running_cov: Tensor,
    momentum: float,
    mean: Tensor,
    cov: Tensor,
    counted: Tensor | None = None,
) -> None:
    """Update running statistics, (g, G, 1) and (g, G, G), in place with those of a batch, (g, G)
    and (g, G, G); `momentum` is the weight of the old value. Where `counted` () is false the batch
    was empty, and nothing changes.
    """
    fresh = 1 - momentum
    for buffer, value in ((running_mean, mean.unsqueeze(-1)), (running_cov, cov)):
        buffer.lerp_(
            value.to(buffer.dtype),
            fresh if counted is None else counted.to(buffer.dtype) * fresh,
        )
