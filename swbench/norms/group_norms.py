"""Instance and layer normalisation by torch's group normalisation, for comparison with
whitening.
"""

import torch
from torch import Tensor, nn


class InstanceNorm2d(nn.GroupNorm):
    """Normalise every channel of every image by its own mean and biased variance, then apply γ and
    β: one channel a group.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(num_features, num_features, eps=eps, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return _group_norm(self, x)


class LayerNorm2d(nn.GroupNorm):
    """Normalise every image by the mean and biased variance of its C·H·W values, then apply γ and β
    of each channel: one group.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__(1, num_features, eps=eps, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        return _group_norm(self, x)


def _group_norm(layer: nn.GroupNorm, x: Tensor) -> Tensor:
    """`torch.nn.functional.group_norm`, but a group of a single value is normalised to 0 and not
    refused.
    """
    return torch.group_norm(
        x, layer.num_groups, layer.weight, layer.bias, layer.eps, torch.backends.cudnn.enabled
    )
