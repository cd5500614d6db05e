"""The device of Triton's launches, which is the current one of the process, not that of the
tensors.
"""

from contextlib import AbstractContextManager, nullcontext

import torch


def on_device(device: torch.device) -> AbstractContextManager:
    """A context in which launches go to `device` and its current stream. Nearly free where `device`
    is the current one already.
    """
    if device.type != "cuda" or torch.cuda.current_device() == device.index:
        return nullcontext()
    return torch.cuda.device(device)
