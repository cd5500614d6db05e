"""Builders of the norms with one signature, called by `swbench.norms.build`."""

from torch import nn

from swbench.errors import OptionError
from swbench.norms.group_norms import InstanceNorm2d, LayerNorm2d
from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d


def batch_norm(channels: int, *, group: int, solver: str, eps: float, **options) -> nn.Module:
    """Torch's own batch normalisation: the baseline."""
    return nn.BatchNorm2d(channels, eps=eps, **options)


def instance_norm(channels: int, *, group: int, solver: str, eps: float, **options) -> nn.Module:
    """Instance normalisation with γ and β."""
    return InstanceNorm2d(channels, eps=eps, **options)


def layer_norm(channels: int, *, group: int, solver: str, eps: float, **options) -> nn.Module:
    """Layer normalisation over C, H and W with γ and β for each channel."""
    return LayerNorm2d(channels, eps=eps, **options)


def instance_whiten(channels: int, *, group: int, solver: str, eps: float, **options) -> nn.Module:
    """Instance whitening."""
    _check(channels, group)
    return InstanceWhiten2d(channels, group, solver=solver, eps=eps, **options)


def batch_whiten(channels: int, *, group: int, solver: str, eps: float, **options) -> nn.Module:
    """Batch whitening."""
    _check(channels, group)
    return BatchWhiten2d(channels, group, solver=solver, eps=eps, **options)


def switch_whiten_a(channels: int, *, group: int, solver: str, eps: float, **options) -> nn.Module:
    """SW^a: {BW, IW}."""
    _check(channels, group)
    return SwitchWhiten2d(channels, group, sw_type=2, solver=solver, eps=eps, **options)


def switch_whiten_b(channels: int, *, group: int, solver: str, eps: float, **options) -> nn.Module:
    """SW^b: {BW, IW, BN, IN, LN}."""
    _check(channels, group)
    return SwitchWhiten2d(channels, group, sw_type=5, solver=solver, eps=eps, **options)


def _check(channels: int, group: int) -> None:
    if group < 1 or channels % group:
        raise OptionError(
            f"group {group} does not divide the {channels} channels of a whitened "
            "layer; choose a group that does, such as 16"
        )
