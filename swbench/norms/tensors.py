"""Checks and conversions of tensors for the kernels of the layers: dense, of the right shape, on
one device, with memory that holds their values.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def statistics_dtype(x: Tensor) -> torch.dtype:
    """float64 for a float64 tensor, float32 for every other."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def abstract(x: Tensor) -> bool:
    """Whether the memory of `x` does not hold its values: a negated view, or a zero tensor of
    forward-mode differentiation, which has no memory.
    """
    return x.is_neg() or x._is_zerotensor()


def concrete(x: Tensor) -> Tensor:
    """`x`, with memory that holds its values."""
    return x.clone() if abstract(x) else x


def concrete_in(tensors: Iterable[Tensor | None], dtype: torch.dtype) -> list[Tensor | None]:
    """`tensors` in `dtype`, with memory that holds their values."""
    return [t if t is None else concrete(t.to(dtype)) for t in tensors]


def dense(x: Tensor) -> Tensor:
    """`x` itself if it is contiguous or channels_last, as the passes need it, otherwise a
    contiguous copy.
    """
    return (
        x
        if x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)
        else x.contiguous()
    )


def checked(x: Tensor, channels: int, may_be_empty: bool = False) -> Tensor:
    """`x` (N, C, H, W), dense, of the right shape (`check_shape`)."""
    if x.dim() != 4 or x.shape[1] != channels or x.numel() == 0:
        check_shape(x, channels, may_be_empty)
    return dense(x)


def check_shape(x: Tensor, channels: int, may_be_empty: bool = False) -> None:
    """Raises ValueError unless `x` (N, C, H, W) has `channels` channels and at least one pixel;
    with `may_be_empty` N may be 0.
    """
    if x.dim() != 4 or x.shape[1] != channels:
        raise ValueError(f"expected an input of shape (N, {channels}, H, W), not {tuple(x.shape)}")
    if x.numel() == 0 and not (may_be_empty and x.shape[0] == 0):
        raise ValueError(
            f"an input of shape {tuple(x.shape)} holds no pixels to take statistics from"
        )


def suggested(x: Tensor) -> torch.memory_format:
    """The memory format of the output for `x`: channels_last if x is that and not contiguous."""
    last = not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def on_one_device(x: Tensor, others: Iterable[Tensor | None]) -> None:
    """Raises RuntimeError if one of `others` is on another device than `x`. Kernels get addresses,
    and an address of another device would end the process.
    """
    other_devices = {str(t.device) for t in others if t is not None and t.device != x.device}
    if other_devices:
        raise RuntimeError(
            f"the input is on {x.device}, tensors of the layer on "
            f"{', '.join(sorted(other_devices))}; move one of them"
        )


def sized(parameters: Iterable[Tensor | None], channels: int, kinds: int) -> None:
    """Raises ValueError unless γ and β have `channels` entries and both logits `kinds`. Kernels
    read so many without a check.
    """
    for name, p, size in zip(
        ("weight", "bias", "sw_mean_weight", "sw_var_weight"),
        parameters,
        (channels, channels, kinds, kinds),
        strict=True,
    ):
        if p is not None and p.numel() != size:
            raise ValueError(f"{name} must have {size} entries, not the shape {tuple(p.shape)}")


def check_running(mean: Tensor, cov: Tensor, channels: int, group: int) -> None:
    """Raises ValueError unless the running statistics have the shapes of `channels` in groups of
    `group`.
    """
    groups = channels // group
    for name, tensor, shape in (
        ("running_mean", mean, (groups, group, 1)),
        ("running_cov", cov, (groups, group, group)),
    ):
        if tensor.shape != shape:
            raise ValueError(f"{name} must have the shape {shape}, not {tuple(tensor.shape)}")
