"""Norms in eval mode folded into the convolutions before them, for deployment."""

import warnings
from collections.abc import Iterable

from torch import nn

from swbench.errors import OptionError
from swbench.models.convert import copied
from swbench.models.folding_sites import Folding, foldings
from swbench.norms.constant_map import BATCH_NORMS
from swbench.norms.layers import Whiten2d

MOST_NAMED = 5
"""The most layers that a message names; further ones are counted."""


def fold_whitening(
    model: nn.Module,
    *,
    merge_groups: bool = False,
    batch_norms: bool = False,
    partial: bool = False,
    inplace: bool = False,
) -> nn.Module:
    """Fold the batch whitening of `model`, in eval mode, into its convolutions: y = A (W x + c) + b
    is one convolution with weight A W and bias A c + b. Returns a copy, or with `inplace` the model
    itself.

    The output is the same to rounding; the new weights are computed in float64. Each folded layer
    is replaced by `nn.Identity`. `batch_norms` folds `nn.BatchNorm2d` and `nn.SyncBatchNorm` too.
    The groups of the convolution must not split a whitening group of G channels. With
    `merge_groups` the convolution gets fewer groups where they do, with zeros in between, and a
    warning reports the additional multiply-adds.

    Whether a layer can be folded is determined by a trace of the modules around it by `torch.fx`:
    its input must be the output of an `nn.Conv2d` or `nn.ConvTranspose2d` that nothing else uses.
    Instance and switchable whitening use the statistics of each image in eval mode too; they cannot
    be folded, and are kept.

    Raises OptionError, with the reason for each layer, if one cannot be folded, before anything is
    changed; with `partial` such layers are kept. Raises it also for a model in training mode, and
    if there is nothing to fold.
    """
    kinds = (Whiten2d, *BATCH_NORMS) if batch_norms else (Whiten2d,)
    candidates = foldings(model, kinds, merge_groups)
    _check(model, candidates, partial)
    if not inplace:
        model = copied(model)
        candidates = foldings(model, kinds, merge_groups)
    costs = _list_names(
        f"{folding.convolution_path} {folding.cost}"
        for folding in candidates
        if not folding.reason and folding.merges
    )
    for folding in candidates:
        if not folding.reason:
            folding.apply(model)
    if costs:
        warnings.warn(f"convolution groups were merged: {costs}", stacklevel=2)
    return model


def fold_norms(model: nn.Module) -> str:
    """Fold, in place, every batch normalisation and batch whitening of `model` that can be folded
    without merging groups. Returns how many were folded, such as `53 of 60 norms`.
    """
    kinds = (Whiten2d, *BATCH_NORMS)
    norms = sum(isinstance(module, kinds) for module in model.modules())
    candidates = [folding for folding in foldings(model, kinds) if not folding.reason]
    for folding in candidates:
        folding.apply(model)
    return f"{len(candidates)} of {norms} norms"


def _check(model: nn.Module, candidates: list[Folding], partial: bool) -> None:
    training = [folding.path for folding in candidates if folding.norm.training]
    if training:
        raise OptionError(
            f"only a model in eval mode can be folded, and {_list_names(training)} "
            f"{'is' if len(training) == 1 else 'are'} in training mode, whose statistics are the "
            "batch's; call model.eval() first"
        )
    if not candidates:
        image_layers = sum(isinstance(module, Whiten2d) for module in model.modules())
        raise OptionError(
            "the model has no batch whitening to fold"
            + (
                f"; its {image_layers} whitening layer{'s' if image_layers > 1 else ''} take the "
                "statistics of each image in eval mode too, which no convolution can"
                if image_layers
                else ""
            )
        )
    refused = [
        f"{folding.path or 'the model itself'}: {folding.reason}"
        for folding in candidates
        if folding.reason
    ]
    if refused and not partial:
        raise OptionError(
            f"{len(refused)} of {len(candidates)} layers cannot be folded (partial=True leaves "
            f"them as they are): {_list_names(refused, '; ')}"
        )


def _list_names(names: Iterable[str], separator: str = ", ") -> str:
    listed = list(names)
    more = len(listed) - MOST_NAMED
    return separator.join(listed[:MOST_NAMED]) + (f"{separator}and {more} more" if more > 0 else "")
