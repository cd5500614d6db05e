"""Cases, the things that are measured: a `Case` (a network), `SolverCase` (a batch of small
matrices) or `StabilityCase` (a layer on a hostile input, or in training). A hash of all fields
identifies a case.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, ClassVar

from swbench import codec

BASELINE, CONTROL, VARIANT = "baseline", "control", "variant"
"""Roles in a group: the case that others are divided by, its identical twin that shows the noise
floor, and all others.
"""

TRAIN, EVAL, FOLDED = "train", "eval", "folded"
"""Phases of a network that are timed: a training step; one forward pass in eval mode without
gradients; the same with norms folded into the convolutions before them, where they can be.
"""


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


@cache
def _names(cls: type) -> tuple[str, ...]:
    """The names of a case's fields, cached: a large run has ten thousand cases."""
    return tuple(field.name for field in dataclasses.fields(cls))


class _Keyed:
    """Hashing and JSON shared by all kinds of case."""

    kind: ClassVar[str]
    _added_fields: ClassVar[dict[str, Any]] = {}
    """Fields that older runs were stored without, and the values that these stand for, so that
    their cases keep their keys.
    """

    def to_json(self) -> dict[str, Any]:
        """All fields and the kind, as JSON-ready values; a field of `_added_fields` only where it
        differs from the older value.
        """
        fields = {"kind": self.kind, **{name: getattr(self, name) for name in _names(type(self))}}
        for name, default in self._added_fields.items():
            if fields[name] == default:
                del fields[name]
        return fields

    @cached_property
    def key(self) -> str:
        """16 hex digits that identify the case: a hash of every field. Labels are never keys."""
        return hashlib.sha256(_canonical(self.to_json()).encode()).hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class Case(_Keyed):
    """One network under one setting.

    `image` is (height, width) in pixels. `layers` is the number of sites that carry `norm`, chosen
    by the `placement` of that name or by the terms `where`; all other sites carry batch
    normalisation. `solver` is a solver spec such as `auto`, `eigh` or `eigh:backward=paper`, None
    where nothing is whitened. `threads` are the intra-op threads on a CPU, 0 on a GPU. `world` is
    the number of processes that share the batch, on `nodes` machines with equally many on each.
    `dtype` is one of torch's names, `tf32`, or `amp-` and a name: autocast to that, with parameters
    in float32. `phase` is `TRAIN`, `EVAL` or `FOLDED`.
    """

    kind: ClassVar[str] = "network"
    _added_fields: ClassVar[dict[str, Any]] = {
        "nodes": 1,
        "placement": "default",
        "where": None,
        "phase": TRAIN,
    }
    model: str
    norm: str = "bn"
    layers: int = 0
    solver: str | None = None
    group: int = 16
    classes: int = 1000
    image: tuple[int, int] = (224, 224)
    batch: int = 1
    device: str = "cpu"
    dtype: str = "float32"
    mode: str = "eager"
    layout: str = "contiguous"
    threads: int = 1
    world: int = 1
    nodes: int = 1
    placement: str = "default"
    where: str | None = None
    phase: str = TRAIN
    role: str = VARIANT


@dataclass(frozen=True, kw_only=True)
class SolverCase(_Keyed):
    """One solver on `batch` matrices of `group`×`group` with a named spectrum (`kappa=1e3`,
    `two-eightfold`, `identity` …).

    `root` is the p of Σ^(-1/p), and `gradient` whether its gradient is measured as well. Where
    there are `sizes`, one call has `batch` matrices of each, and `group` is the largest. `cache` is
    `hot` or `cold` (L2 flushed before each sample, GPU only); `threads` as in `Case`.
    """

    kind: ClassVar[str] = "solver"
    _added_fields: ClassVar[dict[str, Any]] = {"root": 2, "gradient": True, "sizes": ()}
    solver: str
    batch: int
    group: int = 16
    spectrum: str = "kappa=1e3"
    root: int = 2
    gradient: bool = True
    sizes: tuple[int, ...] = ()
    dtype: str = "float32"
    device: str = "cpu"
    mode: str = "eager"
    cache: str = "hot"
    threads: int = 1
    role: str = VARIANT


TEXTBOOK = "textbook"
"""Stands for a solver: the complete layer by the paper's formulas, with eigh and autograd."""

TRAINING = "training"
"""Stands for an input: the training of a small network."""


@dataclass(frozen=True, kw_only=True)
class StabilityCase(_Keyed):
    """One layer on one hostile input, or in the training of a small network with two of them.

    `solver` is a solver spec, `TEXTBOOK`, or None where nothing is whitened; `dtype` one of torch's
    names, or `amp-` and such a name: that under autocast, with parameters in float32. `trial` names
    an input (`swbench.probes.hostile_inputs`) or is `TRAINING`; `steps` of stochastic gradient
    descent at `learning_rate` are then taken from each of `seeds` initial networks. `batch` is the
    number of images.
    """

    kind: ClassVar[str] = "stability"
    norm: str
    trial: str
    solver: str | None = None
    dtype: str = "float32"
    group: int = 16
    batch: int = 8
    steps: int = 0
    seeds: int = 0
    learning_rate: float = 0.0
    device: str = "cpu"
    mode: str = "eager"
    threads: int = 1
    role: str = VARIANT


AnyCase = Case | SolverCase | StabilityCase


def device_kind(device: str) -> str:
    """`cpu` or `cuda`, without an index."""
    return device.partition(":")[0]


def case_from_json(data: dict[str, Any]) -> AnyCase:
    """The case that `to_json` wrote. Raises ValueError for an unknown kind or field."""
    return codec.read(data, AnyCase)
