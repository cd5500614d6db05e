"""The arithmetic behind a case's dtype: what its tensors hold, and where a GPU may round products
to TF32.
"""

import torch

from swbench.probes.workload import Unsupported

TF32 = "tf32"

AMP = "amp-"
"""How the dtype of a case under autocast begins."""


def element_type(dtype: str) -> torch.dtype:
    """The dtype of a case's parameters and inputs. `tf32` is a way to multiply, and its tensors are
    float32; so are those that autocast makes narrower where it is right.
    """
    return torch.float32 if dtype == TF32 or dtype.startswith(AMP) else getattr(torch, dtype)


def narrow_type(dtype: str) -> torch.dtype:
    """The dtype in which convolutions hand tensors on: under autocast the one it is to."""
    return element_type(dtype.removeprefix(AMP))


def autocast(dtype: str, device: str) -> torch.autocast:
    """Autocast as a case of that `dtype` has it on a device: to its narrow dtype, or switched
    off.
    """
    amp = dtype.startswith(AMP)
    return torch.autocast(
        torch.device(device).type, dtype=narrow_type(dtype) if amp else None, enabled=amp
    )


def arrange(dtype: str, device: str) -> dict[str, str]:
    """Set this process's TF32 switches for a case, and say how they and cuDNN's search for the
    quickest algorithm stand.

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
