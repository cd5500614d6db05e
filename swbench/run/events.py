"""The events of a run, for a progress display. No timed region runs meanwhile: the worker waits
until the handler has returned.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swbench.plan import Plan
from swbench.result import Result, Round


@dataclass(frozen=True, kw_only=True)
class RunStarted:
    """The run begins. `sealed` holds by group the number of replicates that are stored already, of
    at most `replicates`; `ran_out` names the groups that ran out of memory.

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
    """A fresh worker begins. The same replicate gets a further one where a case ended the first."""

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
class CaseIsolated:
    """A case did not fit the memory beside the others. From here on it is measured with the
    baseline (and its control) alone; `row` is its label.
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
    """Storing a replicate took `seconds` on the disk that holds `path`; emitted once a run."""

    path: Path
    seconds: float


@dataclass(frozen=True, kw_only=True)
class GroupSettled:
    """Optional stopping: the group needs no more replicates, because of `reason`."""

    group: str
    replicates: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class FallingBack:
    """A group ran out of memory and gets no further replicate. `fallback`, the same with a smaller
    batch, is measured in its place.
    """

    group: str
    fallback: str


@dataclass(frozen=True, kw_only=True)
class RunDone:
    """The run is complete; `failed` of its cells are neither ok nor unsupported."""

    reason: str
    failed: int


Event = (
    RunStarted
    | ReplicateStarted
    | WarmupDone
    | RoundDone
    | CellFailed
    | CaseIsolated
    | ReplicateDone
    | DiskSlow
    | GroupSettled
    | FallingBack
    | RunDone
)
