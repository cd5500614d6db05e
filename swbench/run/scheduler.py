"""Running a plan: replicate 0 of every group, then replicate 1 …, so that an interrupted run has
something of everything and drift spreads.
"""

import dataclasses
import itertools
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from swbench.errors import SwbenchError
from swbench.plan import Group, Plan
from swbench.result import (
    BUDGET_SPENT,
    COUNTED,
    FAILURES,
    FLOPS,
    FORWARD,
    FORWARD_BACKWARD,
    Result,
    paired,
    ran_out,
)
from swbench.run import events
from swbench.run.executor import Executor
from swbench.run.replicate import Replicate
from swbench.stats.estimators import Pair
from swbench.stats.samples import ratio_pairs
from swbench.stats.stopping import Stopping
from swbench.store import RunWriter

SLOW_S = 2.0
"""Storing a replicate, a few kilobytes and two syncs, takes milliseconds; what takes longer than
this is worth a word. Heuristic.
"""


class Interrupted(SwbenchError):
    """The run was stopped by Ctrl-C or a signal; what was measured is readable. `exit_code` is 128
    + the signal: 130 for Ctrl-C, 143 for SIGTERM.
    """

    exit_code = 128 + signal.SIGINT

    @classmethod
    def after(cls, problem: KeyboardInterrupt, writer: RunWriter) -> "Interrupted":
        """The run of `writer` was stopped by `problem`, which names its signal in `number` where it
        was not Ctrl-C.
        """
        number = getattr(problem, "number", signal.SIGINT)
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        kept = (
            f"{len(writer.results)} finished cells are kept in {writer.path}; the same "
            "command with --resume goes on from there"
        )
        found = cls(f"interrupted{by}: {kept}")
        found.exit_code = 128 + number
        return found


@dataclass(frozen=True)
class RunStatus:
    """How a run ended: why it stopped, and how many of its cells failed."""

    reason: str
    failed: int

    @property
    def exit_code(self) -> int:
        """3 where a cell ended out of memory, crashed or timed out; else 0."""
        return 3 if self.failed else 0


def run(
    plan: Plan,
    writer: RunWriter,
    executor: Executor,
    on_event: Callable[[events.Event], None] = lambda event: None,
    *,
    stopping: Stopping | None = None,
    workloads: dict[str, str] | None = None,
    now: Callable[[], float] = time.monotonic,
) -> RunStatus:
    """Measure whatever of `plan` is not sealed yet, seal each replicate as it ends, and finish the
    run.

    `stopping` (made from the plan's `target_ci` where not given) ends groups that are precise
    enough; the plan's budget ends the run before the replicate that would begin after it, and
    earlier lives of the run count. Raises Interrupted after Ctrl-C or a signal and StoreError where
    results cannot be written; the worker is gone then, the run unfinished and resumable.
    """
    return _Run(plan, writer, executor, on_event, stopping, workloads, now).run()


class _Run:
    """The state of one run."""

    def __init__(self, plan, writer, executor, on_event, stopping, workloads, now) -> None:
        self._plan, self._writer, self._executor, self._tell = plan, writer, executor, on_event
        self._workloads, self._now = workloads, now
        target = plan.protocol.target_ci
        self._stopping = stopping or (Stopping(target) if target is not None else None)
        self._started = now()
        self._settled: set[str] = set()
        self._precise: set[str] = set()
        self._told_slow = False
        self._ran_out = set(ran_out(writer.results))
        self._open = {group.name for group in plan.lasting(self._ran_out)}
        self._apart = paired(writer.results)

    @property
    def _replicates(self) -> int:
        return self._stopping.most if self._stopping else self._plan.protocol.replicates

    def run(self) -> RunStatus:
        writer = self._writer
        sealed = {
            group.name: sum(writer.sealed(group.name, number) for number in range(self._replicates))
            for group in self._plan.groups
        }
        try:
            done = {"sealed": sealed, "ran_out": frozenset(self._ran_out), "work": self._work()}
            self._tell(
                events.RunStarted(
                    plan=self._plan, path=writer.path, replicates=self._replicates, **done
                )
            )
            reason = self._measure()
            writer.finish(reason)
        except KeyboardInterrupt as problem:
            raise Interrupted.after(problem, writer) from None
        finally:
            writer.close()
        failed = sum(one.status in FAILURES for one in writer.results)
        self._tell(events.RunDone(reason=reason, failed=failed))
        return RunStatus(reason, failed)

    def _work(self) -> dict[str, float]:
        """The FLOPs of a call of each case whose operations were counted, or those of an image of
        the group that it is a fallback of.
        """
        batches = {case.key: case.batch for group in self._plan.groups for case in group.cases}
        counted = {
            one.case: one.samples(FLOPS) for one in self._writer.results if one.replicate == COUNTED
        }
        for group in self._plan.groups:
            for old, new in self._alike(group).items():
                counted.setdefault(new, counted.get(old, ()))
        return {key: found[0] * batches[key] for key, found in counted.items() if found}

    def _alike(self, group: Group) -> dict[str, str]:
        """The cases of the group in whose place a fallback is measured, with the fallback's own;
        empty for another group, or where the rows differ.
        """
        before = next((one for one in self._plan.groups if one.name == group.fallback_of), None)
        if before is None or before.rows != group.rows:
            return {}
        return {old.key: new.key for old, new in zip(before.cases, group.cases, strict=True)}

    def _measure(self) -> str:
        budget_s = self._plan.protocol.budget_s
        for group, number in self._missing():
            began = self._now()
            if budget_s is not None and self._writer.spent_s + began - self._started >= budget_s:
                return BUDGET_SPENT
            self._inherit_counts(group)
            protocol, metrics = self._plan.protocol, self._plan.metrics
            replicate = Replicate(
                group,
                number,
                protocol,
                self._writer,
                self._executor,
                self._tell,
                self._workloads,
                metrics,
                self._apart,
            )
            results = replicate.run()
            self._apart |= paired(results)
            self._seal(results)
            self._tell(
                events.ReplicateDone(
                    group=group.name,
                    replicate=number,
                    results=results,
                    elapsed_s=self._now() - began,
                )
            )
            self._fall_back(group, results)
        return (
            "precise enough"
            if self._stopping and self._precise >= self._open
            else "all replicates done"
        )

    def _fall_back(self, group: Group, results: Sequence[Result]) -> None:
        """Where a group has just run out of memory for the first time, a fallback of it is due from
        here on.
        """
        if group.name in self._ran_out or not ran_out(results):
            return
        self._ran_out.add(group.name)
        self._open = {group.name for group in self._plan.lasting(self._ran_out)}
        for other in self._plan.groups:
            if other.fallback_of == group.name:
                self._tell(events.FallingBack(group=group.name, fallback=other.name))

    def _inherit_counts(self, group: Group) -> None:
        """A fallback has the operations an image of the group in whose place it is measured, which
        were counted before the run.
        """
        keys = self._alike(group)
        if not keys or self._writer.sealed(group.name, COUNTED):
            return
        counted = {
            one.case: one
            for one in self._writer.results
            if one.replicate == COUNTED and one.group == group.fallback_of
        }
        if counted.keys() == keys.keys():
            self._writer.seal(
                [
                    dataclasses.replace(counted[old], group=group.name, case=new)
                    for old, new in keys.items()
                ]
            )

    def _seal(self, results: Sequence[Result]) -> None:
        """Store a replicate, and say so where the disk takes long: it delays the run, though not
        what is timed.
        """
        began = self._now()
        self._writer.seal(results)
        taken_s = self._now() - began
        if taken_s > SLOW_S and not self._told_slow:
            self._told_slow = True
            self._tell(events.DiskSlow(path=self._writer.path, seconds=taken_s))

    def _missing(self) -> Iterator[tuple[Group, int]]:
        """Replicate-major: what is not sealed, of the groups that still need replicates.

        Where a group has run out of memory all begins again at replicate 0, which its fallback
        needs first: what is measured in the first replicate alone would be missing otherwise, and
        looks count the replicates up to a number. Looks that come again are at the same samples.
        """
        begun = None
        while begun != self._open:
            begun = self._open
            for number, group in itertools.product(range(self._replicates), self._plan.groups):
                if group.name not in self._open or group.name in self._settled:
                    continue
                if not self._writer.sealed(group.name, number):
                    yield group, number
                if group.name not in self._open:
                    break
                self._look(group, number + 1)

    def _look(self, group: Group, replicates: int) -> None:
        """Ask, at the looks that were fixed beforehand, whether a group needs more replicates."""
        if self._stopping is None or not self._stopping.due(replicates):
            return
        decision = self._stopping.decide(
            self._pairs(group, replicates), estimator=self._plan.protocol.estimator
        )
        if decision.stop:
            self._settled.add(group.name)
            if decision.reached and all(decision.reached.values()):
                self._precise.add(group.name)
            self._tell(
                events.GroupSettled(group=group.name, replicates=replicates, reason=decision.reason)
            )

    def _pairs(self, group: Group, replicates: int) -> dict[tuple[str, str], list[list[Pair]]]:
        """Per case and metric, the pairs that the report will find, a list for each replicate, of
        one that failed an empty one; nothing in a group without a baseline.
        """
        baseline, estimator = group.baseline_key, self._plan.protocol.estimator
        rounds = self._writer.owned(group.name)
        each = [[one for one in rounds if one.replicate == number] for number in range(replicates)]
        return {
            (case.key, m): ratio_pairs(each, group.baselines, case.key, m, estimator)
            for case in group.cases
            if baseline not in (None, case.key)
            for m in (FORWARD, FORWARD_BACKWARD)
        }
