"""Conversion of a network's whitening layers to batch statistics over several processes."""

from torch import nn

from swbench.norms.distributed_statistics import WORLD, Group
from swbench.norms.layers import Whiten2d


def convert_sync_whitening(module: nn.Module, process_group: Group = None) -> nn.Module:
    """Let every whitening layer in `module` take its batch statistics over all ranks of
    `process_group`.

    In place, and `module` is returned, as `torch.nn.SyncBatchNorm.convert_sync_batchnorm` does for
    batch normalisation. Without `process_group` it is the default group, looked up at each call, so
    that a network may be converted before torch.distributed is started. Instance whitening uses no
    batch statistics and sends nothing, but then accepts a rank without images.
    """
    for layer in module.modules():
        if isinstance(layer, Whiten2d):
            layer.process_group = WORLD if process_group is None else process_group
    return module
