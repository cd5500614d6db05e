"""Recomputing the running statistics of a network from data."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from swbench.norms.layers import Whiten2d

_COUNT = "num_batches_tracked"


@torch.no_grad()
def update_statistics(
    loader: Iterable[object], model: nn.Module, device: torch.device | str | int | None = None
) -> None:
    """Replace the running statistics of `model` by the average over the batches of `loader`, with
    equal weights. Does for whitening layers and batch normalisations what
    `torch.optim.swa_utils.update_bn` does for batch normalisations.

    A model with averaged weights needs it, because averaged statistics are not the statistics of
    averaged weights. A batch is a tensor, or a tuple or list whose first entry is one; it is moved
    to `device` if that is given. The model runs once over all batches, in training mode and without
    gradients. Modes, momentum and parameters are unchanged afterwards.
    """
    tracking = [m for m in model.modules() if _tracks(m)]
    if not tracking:
        return
    with _averaging(model, tracking):
        for batch in loader:
            x = batch[0] if isinstance(batch, (list, tuple)) else batch
            model(x if device is None else x.to(device))


def _tracks(module: nn.Module) -> bool:
    kinds = Whiten2d, nn.modules.batchnorm._BatchNorm
    return isinstance(module, kinds) and isinstance(getattr(module, "running_mean", None), Tensor)


@contextmanager
def _averaging(model: nn.Module, tracking: list[nn.Module]) -> Iterator[None]:
    """A context in which the layers in `tracking` average over batches, from reset
    statistics on.
    """
    modes = [(module, module.training) for module in model.modules()]
    before = [(layer, layer.momentum, _COUNT in layer._buffers) for layer in tracking]
    for layer in tracking:
        layer.reset_running_stats()
        layer.momentum = None
    model.train()
    try:
        yield
    finally:
        for layer, momentum, counted in before:
            layer.momentum = momentum
            if not counted:
                layer._buffers.pop(_COUNT, None)
        for module, mode in modes:
            module.training = mode
