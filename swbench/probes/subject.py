"""The network of a case and its input, as every probe builds them."""

import torch
from torch import Tensor, nn

from swbench import models
from swbench.case import Case
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


def inputs_of(case: Case, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Its inputs, on the CPU; those of floating point in the case's dtype."""
    dtype = element_type(case.dtype)
    return tuple(
        one.to(dtype) if one.is_floating_point() else one
        for one in models.inputs(case.model, case.batch, case.image, generator)
    )
