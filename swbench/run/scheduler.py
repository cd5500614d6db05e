"""The scheduler: it runs replicate 0 of every group, then replicate 1 …, so that an interrupted run
has results of every group and drift affects all groups.
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
    Result,
    paired,
    ran_out,
)
from swbench.run import events
from swbench.run.executor import Executor
from swbench.run.replicate import Replicate
from swbench.stats.estimators import Pair
from swbench.stats.samples import pairs_of_rows
from swbench.stats.stopping import Stopping
from swbench.store import RunWriter

SLOW_S = 2.0
"""The user is warned if storing a replicate takes more seconds than this. It usually takes
milliseconds: a few kilobytes and two syncs. Heuristic.
"""


class Interrupted(SwbenchError):
    """The run was stopped by Ctrl-C or a signal; what was measured is readable. `exit_code` is 128
    + the signal: 130 for Ctrl-C, 143 for SIGTERM.
    """

    exit_code = 128 + signal.SIGINT

    @classmethod
    def after(cls, problem: KeyboardInterrupt, writer: RunWriter) -> "Interrupted":
        """The error to raise after `problem` stopped the run of `writer`. `problem.number` is the
        signal; without it the cause was Ctrl-C.
        """
        number = getattr(problem, "number", signal.SIGINT)
        by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
        note = (
            f"{len(writer.results)} finished cells are kept in {writer.path}; the same "
            "command with --resume goes on from there"
        )
        interrupted = cls(f"interrupted{by}: {note}")
        interrupted.exit_code = 128 + number
        return interrupted


@dataclass(frozen=True)
class RunStatus:
    """The end of a run: why it stopped, and how many of its cells failed."""

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
    """Measure every replicate of `plan` that is not sealed, seal each as it ends, and finish the
    run.

    `stopping` (made from the plan's `target_ci` if not given) ends groups that are precise enough.
    No replicate begins once the plan's budget is spent; the time before a `--resume` counts too.
    Raises Interrupted after Ctrl-C or a signal, and StoreError if results cannot be written. The
    worker has ended then, and the run is unfinished and can be resumed.
    """
    return _Run(plan, writer, executor, on_event, stopping, workloads, now).run()


class _Run:
    """The state of one run."""

    def __init__(self, plan, writer, executor, on_event, stopping, workloads, now) -> None:
        self._plan, self._writer, self._executor, self._emit = plan, writer, executor, on_event
        self._workloads, self._now = workloads, now
        target = plan.protocol.target_ci
        self._stopping = stopping or (Stopping(target) if target is not None else None)
        self._started = now()
        self._settled: set[str] = set()
        self._precise: set[str] = set()
        self._slow_disk_reported = False
        self._ran_out = set(ran_out(writer.results))
        self._open = {group.name for group in plan.lasting(self._ran_out)}
        self._isolated = paired(writer.results)

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
            state = {
                "sealed": sealed,
                "ran_out": frozenset(self._ran_out),
                "work": self._flops_per_call(),
            }
            self._emit(
                events.RunStarted(
                    plan=self._plan, path=writer.path, replicates=self._replicates, **state
                )
            )
            reason = self._measure()
            writer.finish(reason)
        except KeyboardInterrupt as problem:
            raise Interrupted.after(problem, writer) from None
        finally:
            writer.close()
        failed = sum(result.status in FAILURES for result in writer.results)
        self._emit(events.RunDone(reason=reason, failed=failed))
        return RunStatus(reason, failed)

    def _flops_per_call(self) -> dict[str, float]:
        """The FLOPs of a call by case key. A fallback group (a smaller batch, tried after one that
        ran out of memory) has the counts of the group it replaces, scaled by its batch.
        """
        batches = {case.key: case.batch for group in self._plan.groups for case in group.cases}
        counted = {
            result.case: result.samples(FLOPS)
            for result in self._writer.results
            if result.replicate == COUNTED
        }
        for group in self._plan.groups:
            for old, new in self._replaced_keys(group).items():
                counted.setdefault(new, counted.get(old, ()))
        return {
            key: flops_per_image[0] * batches[key]
            for key, flops_per_image in counted.items()
            if flops_per_image
        }

    def _replaced_keys(self, group: Group) -> dict[str, str]:
        """For a fallback, the keys of the cases that it replaces, mapped to its own; empty for
        another group, or where the rows differ.
        """
        before = next(
            (other for other in self._plan.groups if other.name == group.fallback_of), None
        )
        if before is None or before.rows != group.rows:
            return {}
        return {old.key: new.key for old, new in zip(before.cases, group.cases, strict=True)}

    def _measure(self) -> str:
        budget_s = self._plan.protocol.budget_s
        for group, number in self._pending():
            started = self._now()
            if budget_s is not None and self._writer.spent_s + started - self._started >= budget_s:
                return BUDGET_SPENT
            self._inherit_counts(group)
            protocol, metrics = self._plan.protocol, self._plan.metrics
            replicate = Replicate(
                group,
                number,
                protocol,
                self._writer,
                self._executor,
                self._emit,
                self._workloads,
                metrics,
                self._isolated,
            )
            results = replicate.run()
            self._isolated |= paired(results)
            self._seal(results)
            self._emit(
                events.ReplicateDone(
                    group=group.name,
                    replicate=number,
                    results=results,
                    elapsed_s=self._now() - started,
                )
            )
            self._fall_back(group, results)
        return (
            "precise enough"
            if self._stopping and self._precise >= self._open
            else "all replicates done"
        )

    def _fall_back(self, group: Group, results: Sequence[Result]) -> None:
        """When the group ran out of memory for the first time, record that, which opens its
        fallback group.
        """
        if group.name in self._ran_out or not ran_out(results):
            return
        self._ran_out.add(group.name)
        self._open = {group.name for group in self._plan.lasting(self._ran_out)}
        for other in self._plan.groups:
            if other.fallback_of == group.name:
                self._emit(events.FallingBack(group=group.name, fallback=other.name))

    def _inherit_counts(self, group: Group) -> None:
        """Seal for a fallback the counts of the group it replaces: per image they are equal."""
        keys = self._replaced_keys(group)
        if not keys or self._writer.sealed(group.name, COUNTED):
            return
        counted = {
            result.case: result
            for result in self._writer.results
            if result.replicate == COUNTED and result.group == group.fallback_of
        }
        if counted.keys() == keys.keys():
            self._writer.seal(
                [
                    dataclasses.replace(counted[old], group=group.name, case=new)
                    for old, new in keys.items()
                ]
            )

    def _seal(self, results: Sequence[Result]) -> None:
        """Store a replicate, and emit `DiskSlow` once where that takes long. The delay affects the
        run, but no timed region.
        """
        started = self._now()
        self._writer.seal(results)
        elapsed_s = self._now() - started
        if elapsed_s > SLOW_S and not self._slow_disk_reported:
            self._slow_disk_reported = True
            self._emit(events.DiskSlow(path=self._writer.path, seconds=elapsed_s))

    def _pending(self) -> Iterator[tuple[Group, int]]:
        """Group and number of every replicate to measure: replicate 0 of all groups, then 1, and so
        on.

        After a group ran out of memory the iteration starts again at 0, since its fallback has no
        replicate yet. Interim looks are then repeated, and see the same samples.
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
                self._check_stopping(group, number + 1)

    def _check_stopping(self, group: Group, replicates: int) -> None:
        """Decide, at the looks fixed beforehand, whether a group needs more replicates."""
        if self._stopping is None or not self._stopping.due(replicates):
            return
        decision = self._stopping.decide(
            self._pairs(group, replicates), estimator=self._plan.protocol.estimator
        )
        if decision.stop:
            self._settled.add(group.name)
            if decision.reached and all(decision.reached.values()):
                self._precise.add(group.name)
            self._emit(
                events.GroupSettled(group=group.name, replicates=replicates, reason=decision.reason)
            )

    def _pairs(self, group: Group, replicates: int) -> dict[tuple[str, str], list[list[Pair]]]:
        """By case and metric, the pairs of samples that the report will use: one list for each
        replicate, empty where it failed.
        """
        rounds = self._writer.sealed_rounds(group.name)
        by_replicate = [
            [round_ for round_ in rounds if round_.replicate == number]
            for number in range(replicates)
        ]
        return pairs_of_rows(by_replicate, group, self._plan.protocol.estimator)
