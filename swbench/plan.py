"""What a run will do: groups of cases that share their rounds, and the protocol by which they are measured."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from swbench.case import BASELINE, AnyCase, case_from_json


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a run measures (docs/measuring.md).

    `iterations` rounds in all are spread over `replicates` fresh worker processes; warm-up lasts at least `warmup_calls` calls and
    `warmup_s` seconds, then until two windows agree within 1 %, at most `warmup_cap_s`. `target_ci` (a half-width on the log-ratio)
    turns on optional stopping and `budget_s` ends it; `case_limit_s` is the longest a worker may stay silent.
    """

    iterations: int = 100
    replicates: int = 5
    warmup_calls: int = 3
    warmup_s: float = 2.0
    warmup_cap_s: float = 6.0
    target_ci: float | None = None
    budget_s: float | None = None
    case_limit_s: float = 600.0
    seed: int = 0
    quick: bool = False

    @property
    def rounds(self) -> int:
        """Rounds a replicate."""
        return math.ceil(self.iterations / self.replicates)


QUICK = {"iterations": 10, "replicates": 2, "warmup_calls": 3, "warmup_s": 0.0, "warmup_cap_s": 0.0, "quick": True}
"""What `--quick` changes: 2 replicates of 5 rounds, 3 warm-up calls. Every output of such a run says QUICK."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cases that run in the same rounds of the same worker; the one whose role is `baseline` is what the others are divided by.

    `name` is unique in a plan and readable (`cpu batch 1 224x224`). `rows` gives each case, by position, the label its table shows.
    """

    name: str
    cases: tuple[AnyCase, ...]
    rows: tuple[str, ...]

    @property
    def baseline(self) -> AnyCase:
        """The case the others are compared with. Raises ValueError in a group that has none."""
        for case in self.cases:
            if case.role == BASELINE:
                return case
        raise ValueError(f"group {self.name!r} has no baseline")

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values of all fields."""
        return {"name": self.name, "cases": [case.to_json() for case in self.cases], "rows": list(self.rows)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Group":
        """The group that `to_json` wrote."""
        return cls(name=data["name"], cases=tuple(case_from_json(c) for c in data["cases"]), rows=tuple(data["rows"]))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run: which suite it came from, its groups, its metrics (`flops`, `time`, `memory`, `utilisation`, `accuracy`) and protocol."""

    suite: str
    title: str
    kind: str
    groups: tuple[Group, ...]
    metrics: tuple[str, ...]
    protocol: Protocol
    paper: str | None = None

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values of all fields."""
        data = dataclasses.asdict(self)
        data["groups"] = [group.to_json() for group in self.groups]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """The plan that `to_json` wrote."""
        return cls(
            **{
                **data,
                "groups": tuple(Group.from_json(g) for g in data["groups"]),
                "metrics": tuple(data["metrics"]),
                "protocol": Protocol(**data["protocol"]),
            }
        )
