"""Calculated activation memory: the bytes that autograd saves between the forward and the backward
pass.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef


class SavedTensors:
    """Collects what a forward pass saves for its backward.

    `nbytes` is the sum over distinct storages (a tensor saved twice, or a view of one saved
    already, counts once) without parameters and buffers. It grows until the forward pass ends, so
    its end value is its peak. Not included: the network's output, temporaries inside an operation,
    gradients, and tensors that a layer keeps outside `save_for_backward`. The memory of a process
    is measured by the `memory` metric; this number is the part of it that the shapes determine.
    """

    def __init__(self, persistent: Iterable[Tensor]) -> None:
        self.nbytes = 0
        self._seen = {_storage(t) for t in persistent}

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        """The context in which the forward pass must run."""
        return torch.autograd.graph.saved_tensors_hooks(self._pack, lambda t: t)

    def _pack(self, tensor: Tensor) -> Tensor:
        key = _storage(tensor)
        if key not in self._seen:
            self._seen.add(key)
            self.nbytes += tensor.untyped_storage().nbytes()
        return tensor


def _storage(tensor: Tensor) -> StorageWeakRef:
    # equal for equal storages, and no address is used again while one is held
    return StorageWeakRef(tensor.untyped_storage())
