"""What a progress display is told, always while no timed region runs: the worker waits until the
handler has returned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swbench.plan import Plan
from swbench.result import Result, Round


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """The run begins; of each group so many replicates as `sealed` says are there already, of at
    most `replicates`; `ran_out` names those that did not fit.

    `work` holds the FLOPs of a call by case key, of the cases whose operations are counted.
    """

    plan: Plan
    path: Path
    replicates: int
    sealed: Mapping[str, int]
    ran_out: frozenset[str] = frozenset()
    work: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ReplicateStarted:
    """A fresh worker begins; a second one for the same replicate follows where a case took the
    first one down.
    """

    group: str
    replicate: int
    attempt: str
    cases: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class WarmupDone:
    """One case is warm after `calls` calls; the last took `seconds`."""

    group: str
    replicate: int
    case: str
    calls: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RoundDone:
    """A round is on the disk: number `round.index` + 1 of `rounds` in this replicate."""

    round: Round
    rounds: int


@dataclass(frozen=True, kw_only=True)
class CellFailed:
    """A case ended without its samples; `row` is its label, `detail` the cause."""

    group: str
    replicate: int
    case: str
    row: str
    status: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class SetApart:
    """A case did not fit the memory beside the others, and is measured with the baseline (and its
    control) alone from here on; `row` is its label.
    """

    group: str
    replicate: int
    case: str
    row: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class ReplicateDone:
    """All cells of a group's replicate are sealed; it took `elapsed_s` seconds, process start and
    warm-up included.
    """

    group: str
    replicate: int
    results: tuple[Result, ...]
    elapsed_s: float


@dataclass(frozen=True, kw_only=True)
class DiskSlow:
    """Storing a replicate took `seconds`; said once a run, of the disk that holds `path`."""

    path: Path
    seconds: float


@dataclass(frozen=True, kw_only=True)
class GroupSettled:
    """Optional stopping: the group needs no more replicates, for this reason."""

    group: str
    replicates: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FallingBack:
    """A group ran out of memory: it gets no further replicate, and `fallback`, a smaller batch of
    the same, is measured in its place.
    """

    group: str
    fallback: str


@dataclass(frozen=True, kw_only=True)
class RunDone:
    """The run is complete; `failed` of its cells are not ok nor unsupported."""

    reason: str
    failed: int


Event = (
    RunStarted
    | ReplicateStarted
    | WarmupDone
    | RoundDone
    | CellFailed
    | SetApart
    | ReplicateDone
    | DiskSlow
    | GroupSettled
    | FallingBack
    | RunDone
)
