"""Statistics of a batch distributed over processes: one all-gather forward, one all-reduce
backward.
"""

from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor
from torch import distributed as dist

from swbench.norms.statistics import merge_parts

WORLD = "world"
"""Stands for the default process group at the time of a call; for none where torch.distributed was
not started.
"""

Group: TypeAlias = "dist.ProcessGroup | str | None"

_all_gather = getattr(dist, "all_gather_single", None) or getattr(
    dist, "all_gather_into_tensor", None
)
"""The first name since torch 2.13, the second before; None where torch was built without
torch.distributed.
"""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that share a batch. All must call a layer equally often, even with no images.

    `gather` and `sum` are the only communication of a layer. They never synchronise with the host.
    """

    group: "dist.ProcessGroup"

    def gather(
        self, mean: Tensor, cov: Tensor, pixels: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Merge the means (g, G) and biased covariances (g, G, G) of all ranks into those of the
        whole batch, bitwise the same on all ranks.

        `pixels` of this rank may be 0, with zeros for mean and covariance. Also returns the share
        of this rank in all pixels, and whether there are any pixels, both () tensors. Sends
        C/G·(G² + G) + 1 numbers: the count, the mean and the covariance.
        """
        local = torch.cat([mean.new_full((1,), pixels), mean.flatten(), cov.flatten()]).unsqueeze(0)
        gathered = local.new_empty(dist.get_world_size(self.group), local.shape[1])
        _all_gather(gathered, local, group=self.group)
        count, means, covs = gathered.split([1, mean.numel(), cov.numel()], 1)
        total = count.sum()
        merged = merge_parts(
            count[:, 0], means.reshape(-1, *mean.shape), covs.reshape(-1, *cov.shape)
        )
        return *merged, pixels / total.clamp(min=1), total > 0

    def sum(self, d_mean: Tensor, d_cov: Tensor, rank_share: Tensor) -> tuple[Tensor, Tensor]:
        """Sum the gradients of the batch's mean (g, G) and covariance (g, G, G) over ranks, and
        multiply them by `rank_share`, the share of this rank in all pixels.

        A layer distributes them over the pixels of its own rank, whose weight in the whole batch
        is smaller by that factor. Sends C/G·(G² + G) numbers.
        """
        flat = torch.cat([d_mean.flatten(), d_cov.flatten()])
        dist.all_reduce(flat, group=self.group)
        mean_part, cov_part = flat.mul_(rank_share).split([d_mean.numel(), d_cov.numel()])
        return mean_part.view(d_mean.shape), cov_part.view(d_cov.shape)


def ranks_of(group: Group) -> Ranks | None:
    """The ranks of `group`; None without a group, and for `WORLD` where torch.distributed was not
    started.
    """
    if group is None or (group == WORLD and not (dist.is_available() and dist.is_initialized())):
        return None
    return Ranks(dist.group.WORLD if group == WORLD else group)
