"""The communication of normalisation layers in data-parallel training: calls and bytes of each
layer, from shapes alone.
"""

from typing import NamedTuple

import torch
from torch import nn

from swbench.norms.layers import Whiten2d


class Traffic(NamedTuple):
    """The bytes that one layer passes to torch.distributed in one training step: one gather
    forward, one all-reduce backward, per rank.
    """

    layer: str
    gather_bytes: int
    reduce_bytes: int


def traffic(model: nn.Module, dtype: torch.dtype = torch.float32) -> tuple[Traffic, ...]:
    """The traffic of every layer of `model` that communicates, in the order of definition. `dtype`
    is that of its input.

    A whitening layer with a process group sends C/G·(G² + G) + 1 numbers forward and C/G·(G² + G)
    backward, in float32 (float64 for a float64 input); torch's SyncBatchNorm 2C + 1 and 2C. Each
    rank receives the forward numbers of every other rank.
    """
    size = 8 if dtype == torch.float64 else 4
    layers = []
    for name, layer in model.named_modules():
        if (
            isinstance(layer, Whiten2d)
            and layer.process_group is not None
            and layer.recipe.uses_batch
        ):
            numbers = layer.num_features * (layer.num_pergroup + 1)
        elif isinstance(layer, nn.SyncBatchNorm):
            numbers = 2 * layer.num_features
        else:
            continue
        layers.append(Traffic(name, (numbers + 1) * size, numbers * size))
    return tuple(layers)
