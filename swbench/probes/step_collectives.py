"""The collectives of one data-parallel training step, from shapes alone: their bytes exactly, and
the time that a latency and a bandwidth imply.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, log2

import torch
from torch import nn

from swbench import models
from swbench.case import Case, device_kind
from swbench.norms.communication import traffic
from swbench.norms.sync_convert import convert_sync_whitening
from swbench.probes.flops import FALLBACK
from swbench.probes.precision import element_type

GATHER, REDUCE = "all_gather", "all_reduce"

GRADIENTS = "gradients"
"""The source of the all-reduces of DistributedDataParallel."""

_FIRST_BUCKET_BYTES, _BUCKET_BYTES = 1 << 20, 25 << 20
"""From this size on a bucket is full: torch's `_DEFAULT_FIRST_BUCKET_BYTES`, and the default
`bucket_cap_mb` of DistributedDataParallel.
"""


@dataclass(frozen=True)
class Collective:
    """One collective of `kind`, to which each rank hands `nbytes`. `source` is the name of a layer,
    or `GRADIENTS`.
    """

    source: str
    kind: str
    nbytes: int

    def sent_bytes(self, world: int) -> float:
        """Bytes that each of `world` ranks sends: (W - 1)·b in an all-gather, 2·(W - 1)/W·b in an
        all-reduce.
        """
        return (world - 1) * self.nbytes * (1 if self.kind == GATHER else 2 / world)

    def seconds(self, world: int, latency_s: float, bytes_per_s: float) -> tuple[float, float]:
        """Time among `world` ranks by a tree and by a ring: `latency_s` for each message in turn,
        and the bytes sent over `bytes_per_s`.

        An all-gather takes ⌈log₂ W⌉ messages in turn by recursive doubling and W - 1 around a ring,
        an all-reduce twice as many (Thakur, Rabenseifner and Gropp 2005).
        """
        sent_s = self.sent_bytes(world) / bytes_per_s
        phases = 1 if self.kind == GATHER else 2
        return (
            phases * ceil(log2(world)) * latency_s + sent_s,
            phases * (world - 1) * latency_s + sent_s,
        )


def step_collectives(case: Case) -> tuple[Collective, ...]:
    """All collectives of a training step of `case` on two ranks or more: those of its layers, then
    those of its gradients.

    Neither the number of ranks nor the batch changes them. The network runs on the `meta` device,
    where nothing is computed, or on the CPU where it needs values. Raises what `models.build`
    raises.
    """
    try:
        model, gradients = _backward(case, "meta")
    except (NotImplementedError, RuntimeError, TypeError):
        model, gradients = _backward(case, "cpu")
    convert_sync_whitening(model)
    if device_kind(case.device) == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    collectives = []
    for layer in traffic(model, element_type(case.dtype)):
        collectives.append(Collective(layer.layer, GATHER, layer.gather_bytes))
        collectives.append(Collective(layer.layer, REDUCE, layer.reduce_bytes))
    return (
        *collectives,
        *(Collective(GRADIENTS, REDUCE, size) for size in bucket_bytes(gradients)),
    )


def bucket_bytes(gradients: Iterable[int]) -> list[int]:
    """Bytes of DistributedDataParallel's buckets after its first step. `gradients` are the bytes of
    each gradient in the order of the backward pass.
    """
    sizes, filled, limit = [], 0, _FIRST_BUCKET_BYTES
    for nbytes in gradients:
        filled += nbytes
        if filled >= limit:
            sizes.append(filled)
            filled, limit = 0, _BUCKET_BYTES
    return [*sizes, filled] if filled else sizes


def _backward(case: Case, device: str) -> tuple[nn.Module, list[int]]:
    """The network, and the bytes of each parameter's gradient in the order of a backward pass."""
    dtype, gradients = element_type(case.dtype), []
    with torch.device(device):
        model = models.build(
            case.model, case.norm, case.layers, FALLBACK, case.classes, case.group
        ).to(dtype)
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(
                lambda p: gradients.append(p.numel() * p.element_size())
            )
        output = model(torch.randn(2, 3, *case.image, dtype=dtype))
    output.backward(torch.ones_like(output))
    return model, gradients
