"""When a small constant tensor may be made that is kept on a device for good: not while a CUDA
graph is captured.
"""

import torch


def capturing(device: torch.device) -> bool:
    """Whether work for `device` goes into a CUDA graph now, instead of running. Asked where a
    tensor is about to be made and kept, not in every call.
    """
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def refuse_in_capture(device: torch.device, what: str) -> None:
    """Raises RuntimeError while a CUDA graph is captured, where `what` would have to be copied from
    the host: that waits, which a capture forbids.
    """
    if capturing(device):
        raise RuntimeError(
            f"{what} cannot be copied to {device} while a CUDA graph is captured; "
            "make one call of this shape before the capture, as a warm-up"
        )
