"""The normalisations without whitening, for comparison: batch, instance and layer normalisation, as
torch has them.
"""

import torch
from torch import Tensor, nn


class InstanceNorm2d(nn.GroupNorm):
    """Every channel of every image by its own mean and biased variance, then γ and β: one channel a
    group.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(num_features, num_features, eps=eps, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return _group_norm(self, x)


class LayerNorm2d(nn.GroupNorm):
    """Every image by the mean and biased variance of all its C·H·W values, then γ and β for each
    channel: one group.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(1, num_features, eps=eps, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return _group_norm(self, x)


def _group_norm(layer: nn.GroupNorm, x: Tensor) -> Tensor:
    """As `torch.nn.functional.group_norm`, which refuses a group of one value; here it is
    normalised to 0, like any constant.
    """
    return torch.group_norm(
        x, layer.num_groups, layer.weight, layer.bias, layer.eps, torch.backends.cudnn.enabled
    )
