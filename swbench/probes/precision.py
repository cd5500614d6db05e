"""The arithmetic of a case's dtype: the element type of its tensors, autocast, and where a GPU may
round products to TF32.
"""

import torch

from swbench.probes.workload import Unsupported

TF32 = "tf32"

AMP = "amp-"
"""Prefix of a case's dtype under autocast."""


def element_type(dtype: str) -> torch.dtype:
    """The dtype of a case's parameters and inputs. It is float32 for `tf32`, which is a way to
    multiply, and under autocast, which narrows tensors itself.
    """
    return torch.float32 if dtype == TF32 or dtype.startswith(AMP) else getattr(torch, dtype)


def narrow_type(dtype: str) -> torch.dtype:
    """The dtype of a convolution's output: under autocast the narrow dtype."""
    return element_type(dtype.removeprefix(AMP))


def autocast(dtype: str, device: str) -> torch.autocast:
    """The autocast context of a case: to the narrow dtype that `dtype` names, or switched off."""
    amp = dtype.startswith(AMP)
    return torch.autocast(
        torch.device(device).type, dtype=narrow_type(dtype) if amp else None, enabled=amp
    )


def set_tf32(dtype: str, device: str) -> dict[str, str]:
    """Set this process's TF32 switches for a case. Returns their state and that of cuDNN's search
    for the quickest algorithm (`tf32`, `cudnn_benchmark`); empty on a CPU.

    float32 is float32 everywhere, as in the paper; torch's own default lets convolutions round to
    TF32, which is what `tf32` asks for. Matrix products stay in float32 even then: solvers do not
    converge in ten bits. Raises Unsupported where the device has no TF32.
    """
    if not device.startswith("cuda"):
        if dtype == TF32:
            raise Unsupported("tf32 is arithmetic of CUDA GPUs; use --dtype float32 here")
        return {}
    if (
        dtype == TF32
        and torch.cuda.is_available()
        and torch.cuda.get_device_capability(torch.device(device))[0] < 8
    ):
        raise Unsupported(
            "this GPU has no TF32, which came with compute capability 8.0; use --dtype float32"
        )
    torch.backends.cudnn.allow_tf32 = dtype == TF32
    torch.backends.cuda.matmul.allow_tf32 = False
    return {
        "tf32": "convolutions" if dtype == TF32 else "off",
        "cudnn_benchmark": "on" if torch.backends.cudnn.benchmark else "off",
    }
