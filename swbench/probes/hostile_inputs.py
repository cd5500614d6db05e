"""Named inputs on which normalisations are known to break."""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

INPUTS = {
    "ordinary": "covariance with condition number 10, mean 0",
    "kappa-1e4": "covariance with condition number 1e4",
    "kappa-1e6": "covariance with condition number 1e6",
    "kappa-1e8": "covariance with condition number 1e8",
    "mean-1e4": "mean of every channel at 1e4 standard deviations",
    "dead": "every other channel is zero",
    "duplicated": "every other channel is a copy of its neighbour",
    "few-pixels": "two images of 2×2 pixels, fewer in all than a group has channels",
    "one-pixel": "one image of one pixel",
    "large": "values up to nine tenths of the largest of the dtype",
    "constant": "every image constant, each another value",
    "outlier": "one image with 1000 times the contrast of all others",
}
"""Every input by name, with its difficulty in words."""

CHANNELS_IN_GROUPS = 2
"""Groups of channels in an input: two, so that a layer that confuses them fails."""

SMALLEST = 1e-4
"""The smallest eigenvalue of the `kappa` inputs: ten times the ε of the layers, so that with ε the
condition number that a solver sees is within a tenth of the one in the name.
"""


def hostile_input(name: str, batch: int, group: int, dtype: "torch.dtype", seed: int) -> "Tensor":
    """The input called `name`, (N, 2G, H, W) in `dtype` on the CPU; the same for the same `seed`.

    N is `batch`, and an image has at least 8×8 and 2G pixels, unless the name fixes them. The
    channels of each image have exactly the wanted covariance, so that the batch's covariance has
    the same condition number. Raises KeyError for a name that is not in `INPUTS`.
    """
    import torch

    if name not in INPUTS:
        raise KeyError(name)
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int) -> "Tensor":
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    channels = CHANNELS_IN_GROUPS * group
    if name == "few-pixels":
        return noise(2, channels, 2, 2).to(dtype)
    if name == "one-pixel":
        return noise(1, channels, 1, 1).to(dtype)
    side = max(8, math.ceil(math.sqrt(2 * group)))
    if name == "constant":
        return noise(batch, channels, 1, 1).expand(batch, channels, side, side).to(dtype)
    kind, _, value = name.partition("-")
    kappa = float(value) if kind == "kappa" else 10.0
    raw = noise(batch * CHANNELS_IN_GROUPS, side * side, group)
    # orthonormal columns of mean 0: the covariance of each image is I to the last digit
    white, _ = torch.linalg.qr(raw - raw.mean(1, keepdim=True))
    deviations = torch.logspace(0, -math.log10(kappa) / 2, group, dtype=torch.float64)
    scale = math.sqrt(SMALLEST * kappa) if kind == "kappa" else 1.0
    basis, _ = torch.linalg.qr(noise(group, group))
    mixed = white.mul(scale * side) @ (basis * deviations).mT
    x = mixed.mT.reshape(batch, channels, side, side)
    if name == "mean-1e4":
        deviation = x.std((0, 2, 3), correction=0, keepdim=True)
        x = x + 1e4 * deviation * noise(1, channels, 1, 1).sign()
    elif name == "dead":
        x[:, 1::2] = 0
    elif name == "duplicated":
        x[:, 1::2] = x[:, ::2]
    elif name == "large":
        x = x / x.abs().max() * (0.9 * torch.finfo(dtype).max)
    elif name == "outlier":
        x[0] *= 1000
    return x.to(dtype).contiguous()
