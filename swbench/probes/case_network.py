"""The network of a case and its input, as every probe builds them."""

import contextlib

import torch
from torch import Tensor, nn

from swbench import models
from swbench.case import FOLDED, TRAIN, Case
from swbench.models.folding import fold_norms
from swbench.norms.tracking import update_statistics
from swbench.probes.precision import element_type


def network_of(case: Case, solver: str) -> nn.Module:
    """The network, freshly initialised in float32 on the default device."""
    return models.build(
        case.model,
        norm=case.norm,
        layers=case.layers,
        solver=solver,
        num_classes=None if case.model == "stylizer" else case.classes,
        group=case.group,
        placement=case.placement,
        where=case.where,
    )


def in_phase(model: nn.Module, phase: str, inputs: tuple[Tensor, ...]) -> dict[str, str]:
    """Put `model`, in place, into the mode in which a case of that `phase` calls it; what is to be
    told of it. In eval mode its running statistics are those of `inputs`, where it can be trained
    on them: of a fresh network they would be those of no data, which iterations in SW notice.
    """
    if phase == TRAIN:
        return {}
    if len(inputs) == 1:
        with contextlib.suppress(ValueError):  # one pixel a channel, which BN refuses in training
            update_statistics(inputs, model)
    model.eval()
    return {"folded": fold_norms(model)} if phase == FOLDED else {}


def inputs_of(case: Case, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Its inputs, on the CPU; those of floating point in the case's dtype."""
    dtype = element_type(case.dtype)
    return tuple(
        one.to(dtype) if one.is_floating_point() else one
        for one in models.inputs(case.model, case.batch, case.image, generator)
    )
