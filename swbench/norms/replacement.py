"""Replacing a batch normalisation by another layer, with its parameters, running statistics,
settings and hooks.
"""

import dataclasses

import torch
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from swbench.norms.distributed_statistics import WORLD
from swbench.norms.layers import SwitchWhiten2d, Whiten2d

MIXES = ("equal", "batch")
"""Initial weights of a switchable layer: equal, or all on the batch's statistics."""

BATCH_LOG_ODDS = 80.0
"""Difference of the batch's logit to the others for `batch`. e^-80 = 2e-35 vanishes beside 1 even
if the variance of an image is 10^15 times the batch's, and it is not 0 in float32, which would stop
all gradients.
"""

_TIMM = {
    "timm.layers.norm_act.BatchNormAct2d",
    "timm.layers.norm_act.SyncBatchNormAct",
}
_STATE = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
_HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def is_norm_act(norm: nn.Module) -> bool:
    """Whether `norm` is timm's batch normalisation, which includes a dropout and an activation."""
    return f"{type(norm).__module__}.{type(norm).__qualname__}" in _TIMM


def reason_not_replaceable(norm: nn.Module) -> str | None:
    """The reason why replacing `norm` would change more than the norm; None if it can be
    replaced.
    """
    if is_parametrized(norm):
        names = ", ".join(norm.parametrizations)
        return f"has a parametrisation of {names}, which another layer cannot take over"
    if isinstance(norm, nn.InstanceNorm2d):
        return "is an instance normalisation, which has no batch statistics to start from"
    if type(norm).__name__.startswith("FrozenBatchNorm"):
        return "is frozen: it has constants in place of parameters and statistics"
    if isinstance(norm, nn.LazyBatchNorm2d):
        return "has no known number of channels before the first call of the network"
    if type(norm) not in (nn.BatchNorm2d, nn.SyncBatchNorm) and not is_norm_act(norm):
        return "is a subclass with its own behaviour, which a replacement would lose"
    if "forward" in vars(norm):
        return "has its own forward method, set on the object"
    children = {"drop", "act"} if is_norm_act(norm) else set()
    extra = {*norm._parameters, *norm._buffers} - _STATE | {*norm._modules} - children
    if extra:
        return f"has {', '.join(sorted(extra))} besides the state of a batch normalisation"
    if any(vars(norm).get(name) for name in _STATE_HOOKS):
        return "has state-dict hooks, which are written for its own keys"
    return None


def transfer_state(norm: nn.Module, layer: nn.Module, mix: str = "equal") -> nn.Module:
    """Transfer the state of the batch normalisation `norm` to `layer`, and return the module that
    replaces it: `layer` itself or, for timm's `BatchNormAct2d`, the layer with its dropout and
    activation.

    Weight and bias are the same Parameter objects, so that an optimizer still has them. eps, mode,
    device and dtype are transferred, and momentum too, as 1 − momentum where the layer takes the
    weight of the old value. Whitening starts from the running mean and diag(running variance), a
    covariance for each group. Without running statistics (`track_running_stats=False`) the layer
    uses those of its batch in eval mode too. `mix` is one of `MIXES`. Hooks are transferred and are
    called with the replacement.
    """
    like = norm.weight if norm.weight is not None else norm.running_mean
    if like is not None:
        layer.to(device=like.device, dtype=like.dtype)
    for name in ("weight", "bias"):
        layer_tensor, norm_tensor = layer._parameters.get(name), getattr(norm, name)
        if name in layer._parameters and (
            layer_tensor is None or norm_tensor is None or _same_shape(layer_tensor, norm_tensor)
        ):
            layer.register_parameter(name, norm_tensor)
    if "eps" in vars(layer):
        layer.eps = norm.eps
    if isinstance(layer, nn.modules.batchnorm._BatchNorm):
        _as_batch_norm(norm, layer)
    elif isinstance(layer, Whiten2d):
        _as_whitening(norm, layer, mix)
    elif isinstance(layer, nn.GroupNorm):
        layer.affine = layer.weight is not None
    layer.train(norm.training)
    placed = NormAct2d(layer, norm.drop, norm.act) if _has_act(norm) else layer
    placed.training = norm.training
    _transfer_attributes(norm, placed)
    return placed


class NormAct2d(nn.Module):
    """A norm followed by a dropout and an activation, (N, C, H, W) to (N, C, H, W): the replacement
    of timm's `BatchNormAct2d`.
    """

    def __init__(self, norm: nn.Module, drop: nn.Module, act: nn.Module) -> None:
        super().__init__()
        self.norm, self.drop, self.act = norm, drop, act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(self.norm(x)))

    @property
    def num_features(self) -> int:
        """The number of channels."""
        return self.norm.num_features


def _has_act(norm: nn.Module) -> bool:
    return is_norm_act(norm) and hasattr(norm, "drop") and hasattr(norm, "act")


def _same_shape(layer_tensor: torch.Tensor, norm_tensor: torch.Tensor) -> bool:
    return layer_tensor.shape == norm_tensor.shape


def _as_batch_norm(norm: nn.Module, layer: nn.Module) -> None:
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        layer.register_buffer(name, getattr(norm, name))
    layer.momentum, layer.affine = norm.momentum, norm.affine
    layer.track_running_stats = norm.track_running_stats


def _as_whitening(norm: nn.Module, layer: Whiten2d, mix: str) -> None:
    layer.recipe = dataclasses.replace(layer.recipe, eps=norm.eps)
    if isinstance(norm, nn.SyncBatchNorm):
        layer.process_group = WORLD if norm.process_group is None else norm.process_group
    if isinstance(layer, SwitchWhiten2d):
        _start_logits(norm, layer, mix)
    if not layer.recipe.uses_batch:
        return
    if norm.running_mean is None:
        layer.running_mean = layer.running_cov = None
        layer.track_running_stats = False
        return
    with torch.no_grad():
        shape = layer.running_mean.shape[:2]
        layer.running_mean = norm.running_mean.detach().clone().view(*shape, 1)
        layer.running_cov = torch.diag_embed(norm.running_var.detach().view(shape))
    if norm.momentum is None:
        count = norm.num_batches_tracked
        layer.register_buffer("num_batches_tracked", torch.tensor(0) if count is None else count)
        layer.momentum = None
    elif not norm.track_running_stats:
        layer.momentum = 1.0  # the norm has statistics but does not update them
    else:
        layer.momentum = 1 - norm.momentum


def _start_logits(norm: nn.Module, layer: SwitchWhiten2d, mix: str) -> None:
    """Set the logits as `mix` says, and freeze them if the weight of the norm is frozen."""
    for logits in (layer.sw_mean_weight, layer.sw_var_weight):
        if logits is None:
            continue
        if norm.weight is not None:
            logits.requires_grad_(norm.weight.requires_grad)
        if mix == "batch":
            with torch.no_grad():
                logits[layer.recipe.statistics.index("bw")] += BATCH_LOG_ODDS


def move_hooks(layer: nn.Module, norm: nn.Module) -> None:
    """Add the hooks of `layer` to those of `norm`."""
    for name in _HOOKS:
        vars(norm)[name].update(vars(layer)[name])


def _transfer_attributes(norm: nn.Module, placed: nn.Module) -> None:
    """Transfer hooks, in the dictionaries that their handles refer to, and attributes that were set
    on the module.
    """
    move_hooks(placed, norm)
    for name in _HOOKS:
        vars(placed)[name] = vars(norm)[name]
    if norm._is_full_backward_hook is not None:
        placed._is_full_backward_hook = norm._is_full_backward_hook
    for name, value in vars(norm).items():
        if name not in _MODULE_ATTRIBUTES and not hasattr(placed, name):
            setattr(placed, name, value)


_MODULE_ATTRIBUTES = vars(nn.SyncBatchNorm(1)).keys()
