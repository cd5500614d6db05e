"""Checks for CUDA graph capture, during which no constant tensor may be made and cached."""

import torch


def capturing(device: torch.device) -> bool:
    """Whether work for `device` is being captured into a CUDA graph. Checked where a tensor is
    about to be cached, not in every call.
    """
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def refuse_in_capture(device: torch.device, what: str) -> None:
    """Raises RuntimeError while a CUDA graph is captured, because `what` would have to be copied
    from the host, a synchronisation that a capture forbids.
    """
    if capturing(device):
        raise RuntimeError(
            f"{what} cannot be copied to {device} while a CUDA graph is captured; "
            "make one call of this shape before the capture, as a warm-up"
        )
