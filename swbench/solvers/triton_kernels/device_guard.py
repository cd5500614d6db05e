"""The device that Triton launches on: it takes the current one of this process, wherever the
tensors are.
"""

from contextlib import AbstractContextManager, nullcontext

import torch


def on_device(device: torch.device) -> AbstractContextManager:
    """Launches go to `device` and its current stream. Of no cost to speak of where `device` is the
    current one already.
    """
    if device.type != "cuda" or torch.cuda.current_device() == device.index:
        return nullcontext()
    return torch.cuda.device(device)
