"""The network of a case and its input, as every probe builds them."""

import contextlib

import torch
from torch import Tensor, nn

from swbench import models
from swbench.case import FOLDED, TRAIN, Case
from swbench.models.folding import fold_norms
from swbench.norms.tracking import update_statistics
from swbench.probes.precision import element_type


def build_network(case: Case, solver: str) -> nn.Module:
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


def set_phase(model: nn.Module, phase: str, inputs: tuple[Tensor, ...]) -> dict[str, str]:
    """Put `model`, in place, into the mode in which a case of that `phase` calls it. Returns what
    to record of it under `chosen`.

    In eval mode its running statistics become those of `inputs`, if it can be trained on them. A
    fresh network's statistics are those of no data, which iterative solvers are sensitive to.
    """
    if phase == TRAIN:
        return {}
    if len(inputs) == 1:
        with contextlib.suppress(ValueError):  # one pixel a channel, which BN refuses in training
            update_statistics(inputs, model)
    model.eval()
    return {"folded": fold_norms(model)} if phase == FOLDED else {}


def case_inputs(case: Case, generator: torch.Generator) -> tuple[Tensor, ...]:
    """The inputs of a case, on the CPU; floating-point inputs in the case's dtype."""
    dtype = element_type(case.dtype)
    return tuple(
        tensor.to(dtype) if tensor.is_floating_point() else tensor
        for tensor in models.inputs(case.model, case.batch, case.image, generator)
    )
