"""The job of a worker, and its ending."""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from swbench import codec
from swbench.case import AnyCase
from swbench.plan import Protocol

EXIT_CRASHED, EXIT_OUT_OF_MEMORY = 70, 71
"""Exit statuses of a worker or a rank that could not go on."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One replicate of one group, or of the cases that are left after one ended a worker.

    `observe` names the slow metrics that are measured in this replicate (`utilisation`, `energy`,
    `memory`). `workloads` maps the kind of a case to `module:attribute` of its workload; `log`
    names the worker's log file. `pair` holds the keys of a baseline and a case that are measured
    only for each other: when one fails, timing ends. `read_out` holds the keys of cases whose
    untimed metrics another worker of this replicate has read.
    """

    group: str
    cases: tuple[AnyCase, ...]
    replicate: int
    attempt: str
    protocol: Protocol
    workloads: dict[str, str]
    log: str
    observe: tuple[str, ...] = ()
    pair: tuple[str, ...] = ()
    read_out: tuple[str, ...] = ()

    @cached_property
    def by_key(self) -> dict[str, AnyCase]:
        """The cases by their keys, in the order of `cases`."""
        return {case.key: case for case in self.cases}

    @property
    def seed(self) -> str:
        """The seed of the order of cases in every round; equal when a replicate is repeated."""
        return f"{self.protocol.seed}/{self.group}/{self.replicate}"

    @property
    def threads(self) -> int:
        """Intra-op threads of the worker; 0 leaves torch's own number."""
        return max(case.threads for case in self.cases)

    @property
    def world(self) -> int:
        """Processes that every case is spread over."""
        return max(getattr(case, "world", 1) for case in self.cases)

    @property
    def nodes(self) -> int:
        """Machines that the processes are on, as many on each."""
        return max(getattr(case, "nodes", 1) for case in self.cases)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values of all fields."""
        return {**dataclasses.asdict(self), "cases": [case.to_json() for case in self.cases]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Job":
        """The job that `to_json` wrote."""
        return codec.read(data, cls)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a worker ended; `ok` if it completed its job.

    With `restart` the worker ended itself after a case had failed, and the other cases need a fresh
    one. Otherwise `culprit` is the key of the case that was running, None between cases, and
    `status` and `detail` say what happened.
    """

    ok: bool
    culprit: str | None = None
    status: str = ""
    detail: str = ""
    restart: bool = False
