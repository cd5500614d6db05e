"""A run's plan: groups of cases that share their rounds, and the protocol that measures them."""

import dataclasses
import math
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Literal

from swbench import codec
from swbench.case import BASELINE, CONTROL, AnyCase

MEDIAN, FASTER_HALF = "median", "faster-half"
"""Estimators of a ratio from the rounds of one process (`stats.estimators`)."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The measuring protocol of a run (docs/measuring.md).

    `iterations` rounds in all are divided among `replicates` fresh worker processes. A warm-up
    lasts at least `warmup_calls` calls and `warmup_s` seconds, then until two windows agree
    (`worker.warmup`), at most `warmup_cap_s` seconds. `target_ci` (a half-width on the log-ratio)
    turns on optional stopping, and `budget_s` seconds end it. `case_limit_s` is the longest time in
    seconds without a message of the worker. `estimator` names the estimator of a ratio from one
    process's rounds (`stats.estimators`); older runs, stored without it, used the median.
    """

    iterations: int = 100
    replicates: int = 8
    warmup_calls: int = 3
    warmup_s: float = 2.0
    warmup_cap_s: float = 6.0
    target_ci: float | None = None
    budget_s: float | None = None
    case_limit_s: float = 600.0
    seed: int = 0
    quick: bool = False
    estimator: Literal["median", "faster-half"] = MEDIAN

    @property
    def rounds(self) -> int:
        """Rounds a replicate."""
        return math.ceil(self.iterations / self.replicates)


QUICK = {
    "iterations": 10,
    "replicates": 2,
    "warmup_calls": 3,
    "warmup_s": 0.0,
    "warmup_cap_s": 0.0,
    "quick": True,
}
"""What `--quick` changes: 2 replicates of 5 rounds, 3 warm-up calls. Every output of such a run
says QUICK.
"""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Cases that run in the same rounds of the same worker; the others are divided by the one whose
    role is `baseline`.

    `name` is unique in a plan and readable (`cpu batch 1 224x224`). `rows` holds, by position, the
    label of each case in the table. `fallback_of` names an earlier group of the plan that differs
    only in its larger batch: this group is measured only if that one runs out of memory.
    """

    name: str
    cases: tuple[AnyCase, ...]
    rows: tuple[str, ...]
    fallback_of: str | None = None

    @property
    def baseline(self) -> AnyCase:
        """The case the others are compared with. Raises ValueError in a group that has none."""
        for case in self.cases:
            if case.role == BASELINE:
                return case
        raise ValueError(f"group {self.name!r} has no baseline")

    @property
    def baseline_key(self) -> str | None:
        """The key of its baseline; None in a group that has none."""
        return next((case.key for case in self.cases if case.role == BASELINE), None)

    @property
    def baselines(self) -> tuple[str, ...]:
        """The keys of its baseline and of the control, the baseline's twin; empty in a group that
        has no baseline.
        """
        if self.baseline_key is None:
            return ()
        return (self.baseline_key, *(case.key for case in self.cases if case.role == CONTROL))

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values of all fields; `fallback_of` only where there is one, as in runs that
        were stored before there was any.
        """
        data = {
            "name": self.name,
            "cases": [case.to_json() for case in self.cases],
            "rows": list(self.rows),
        }
        return data | ({"fallback_of": self.fallback_of} if self.fallback_of is not None else {})


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole run: which suite it came from, its groups, its metrics (`flops`, `time`, `memory`,
    `utilisation`, `accuracy`) and protocol.
    """

    suite: str
    title: str
    kind: str
    groups: tuple[Group, ...]
    metrics: tuple[str, ...]
    protocol: Protocol
    paper: str | None = None

    def due(self, ran_out: Container[str]) -> tuple[Group, ...]:
        """The groups to measure, as far as is known: all but the fallbacks of groups that have not
        run out of memory. `ran_out` names those that have.
        """
        groups: dict[str, Group] = {}
        for group in self.groups:
            if group.fallback_of is None or (
                group.fallback_of in groups and group.fallback_of in ran_out
            ):
                groups[group.name] = group
        return tuple(groups.values())

    def given_up(self, ran_out: Container[str]) -> frozenset[str]:
        """The groups that a fallback replaces: one replicate has shown that they do not fit, and
        they get no further one.
        """
        return frozenset(
            group.fallback_of for group in self.due(ran_out) if group.fallback_of is not None
        )

    def lasting(self, ran_out: Container[str]) -> tuple[Group, ...]:
        """The groups that get all their replicates, as far as is known: those that are due and not
        given up.
        """
        given_up = self.given_up(ran_out)
        return tuple(group for group in self.due(ran_out) if group.name not in given_up)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values of all fields."""
        data = dataclasses.asdict(self)
        data["groups"] = [group.to_json() for group in self.groups]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Plan":
        """The plan that `to_json` wrote. Raises ValueError for anything else."""
        return codec.read(data, cls)
