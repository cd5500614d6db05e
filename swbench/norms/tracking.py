"""Running statistics of a whitening layer as a batch normalisation may have them: averaged over all
batches so far, or not at all.
"""

import torch
from torch import Tensor, nn

from swbench.norms.layers import BatchWhiten2d, SwitchWhiten2d, Whiten2d


class CumulativeAverage:
    """A forward pre-hook: running statistics become the average over all training batches, as
    `momentum=None` means for `nn.BatchNorm2d`.

    The count is the layer's buffer `num_batches_tracked`. Reading it waits for the device, as it
    does in `nn.BatchNorm2d`.
    """

    def __call__(self, layer: nn.Module, _inputs: tuple) -> None:
        """Set the share of the old value for the call that follows."""
        if layer.training:
            layer.num_batches_tracked.add_(1)
            layer.momentum = 1 - 1 / float(layer.num_batches_tracked)


def accumulate(layer: Whiten2d, count: Tensor | None) -> None:
    """Let `layer` average over all batches, of which it has seen `count` ()."""
    count = torch.tensor(0) if count is None else count
    layer.register_buffer("num_batches_tracked", count)
    layer.register_forward_pre_hook(CumulativeAverage())


class _Untracked:
    """Statistics of the batch in eval mode too, and no running ones in the state dict."""

    def train(self, mode: bool = True):
        """`nn.Module.train`, but the layer itself stays in training mode: there it takes the
        batch's statistics.
        """
        super().train(mode)
        self.training = True
        return self


class UntrackedBatchWhiten2d(_Untracked, BatchWhiten2d):
    """Batch whitening by the statistics of the batch, in eval mode too."""


class UntrackedSwitchWhiten2d(_Untracked, SwitchWhiten2d):
    """Switchable whitening by the statistics of the batch, in eval mode too."""


_UNTRACKED = {
    BatchWhiten2d: UntrackedBatchWhiten2d,
    SwitchWhiten2d: UntrackedSwitchWhiten2d,
}


def untracked(layer: Whiten2d) -> None:
    """Let `layer` take the statistics of its batch in both modes, as `track_running_stats=False`
    means. Raises ValueError for a class that this cannot be done for.
    """
    if type(layer) not in _UNTRACKED:
        raise ValueError(f"{type(layer).__name__} cannot do without running statistics")
    layer.__class__ = _UNTRACKED[type(layer)]
    layer.momentum = 1.0  # what is kept never moves, and is no state
    layer._non_persistent_buffers_set |= {"running_mean", "running_cov"}
    layer.training = True
