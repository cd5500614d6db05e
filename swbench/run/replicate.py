"""One replicate of one group: worker after worker until every case has its result."""

import re
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from swbench.case import BASELINE, CONTROL, AnyCase
from swbench.plan import Group, Protocol
from swbench.probes import WORKLOADS
from swbench.result import (
    CRASHED,
    OK,
    ONE_BY_ONE,
    OUT_OF_MEMORY,
    PAIRED,
    TIMED_OUT,
    WITHOUT_CONTROL,
    Measurement,
    Result,
)
from swbench.run import events
from swbench.run.executor import Executor
from swbench.run.worker_run import WorkerRun
from swbench.store import RunWriter
from swbench.worker.job import Ending, Job

OBSERVED = ("utilisation", "energy", "memory")
"""Metrics that are measured once a run: the first two take a loop of seconds, the third a profiled
call, whose result is equal in every process.
"""


MAX_CRASHES = 2
"""Crashes or timeouts in a replicate after which a baseline or control is not retried. Heuristic:
one may be chance, and each may take the time limit.
"""


class Replicate:
    """Runs a group's cases in one worker. Where a case ends the worker, the others start afresh in
    a new one.

    A case that runs out of memory beside others is isolated: it gets a worker of its own with the
    baseline and its control, or with the baseline alone where the three do not fit. Where the
    baseline runs out of memory, all cases are isolated. A case that does not fit even then is
    `out_of_memory`.
    """

    def __init__(
        self,
        group: Group,
        number: int,
        protocol: Protocol,
        writer: RunWriter,
        executor: Executor,
        on_event: Callable[[events.Event], None],
        workloads: dict[str, str] | None = None,
        metrics: tuple[str, ...] = (),
        isolated: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`metrics` are those of the plan; the slow ones among them are observed only in the first
        replicate.

        `isolated` maps the keys of cases that were isolated in an earlier replicate to the note in
        their `chosen`; they are isolated from the start in this one.
        """
        self._group, self._number, self._protocol = group, number, protocol
        self._writer, self._executor, self._emit = writer, executor, on_event
        self._workloads = workloads or dict(WORKLOADS)
        self._observe = tuple(metric for metric in OBSERVED if metric in metrics and number == 0)
        self._rows = {case.key: row for case, row in zip(group.cases, group.rows, strict=True)}
        self._results: dict[str, Result] = {}
        self._isolated = dict(isolated)
        self._worker_run: WorkerRun
        self._single: AnyCase | None = None
        self._dropped: set[str] = set()
        self._read_out: set[str] = set()
        self._crashes: Counter[str] = Counter()
        self._pair_over = False

    def run(self) -> tuple[Result, ...]:
        """The result of every case, in the order of the group; not sealed yet."""
        cases = self._group.cases
        if any(case.role == BASELINE and case.key in self._isolated for case in cases):
            # a case whose baseline is isolated would have no ratio
            self._mark_isolated(cases)
        fitting = [case for case in cases if case.key not in self._isolated]
        if not self._isolated or _count_comparisons(fitting):
            self._measure(fitting)
        if any(case.role == BASELINE for case in cases):
            # the control last, because it is measured beside every other case
            for case in sorted(cases, key=lambda case: case.role == CONTROL):
                if case.role != BASELINE and case.key not in self._results:
                    if case.role == CONTROL and self._isolated:
                        self._mark_isolated([case])
                    self._pair(case)
        self._measure([case for case in cases if case.key not in self._results])
        return tuple(self._results[case.key] for case in cases)

    def _pair(self, single: AnyCase) -> None:
        """Measure one case with its baseline and control. Whichever of them runs out of memory, it
        is `single` that does not fit.

        Where the baseline crashes, the next worker has a fresh one, up to `MAX_CRASHES` times; then
        `single` is measured alone, without a ratio.
        """
        without_control = self._isolated.get(single.key) == WITHOUT_CONTROL
        for roles in ((BASELINE,),) if without_control else ((BASELINE, CONTROL), (BASELINE,)):
            self._pair_over = False
            while single.key not in self._results and not self._pair_over:
                partner_roles = [
                    other.role
                    for other in self._group.cases
                    if other.role in roles and self._worth_retrying(other)
                ]
                roles_beside = partner_roles if BASELINE in partner_roles else ()
                self._run_worker(
                    [
                        other
                        for other in self._group.cases
                        if other is single or other.role in roles_beside
                    ],
                    single,
                )

    def _measure(self, remaining: list[AnyCase]) -> None:
        """Run workers until every case has a result or is isolated, or one pair is left."""
        while remaining and _count_comparisons(remaining) != 1:
            if self._run_worker(remaining).ok:
                break
            remaining = [case for case in remaining if case.key not in self._dropped]

    def _run_worker(self, cases: list[AnyCase], single: AnyCase | None = None) -> Ending:
        """Run one worker on `cases`, emit its failures and store its results. `single` is the case
        for which a pair is measured.
        """
        is_pair, attempt = single is not None and single.key in self._isolated, uuid.uuid4().hex[:8]
        group = re.sub(r"[^A-Za-z0-9]+", "-", self._group.name)[:60]
        job = Job(
            group=self._group.name,
            cases=tuple(cases),
            replicate=self._number,
            attempt=attempt,
            protocol=self._protocol,
            workloads=self._workloads,
            observe=self._observe,
            pair=tuple(
                case.key for case in cases if is_pair and (case is single or case.role == BASELINE)
            ),
            read_out=tuple(case.key for case in cases if case.key in self._read_out),
            log=f"{group}-r{self._number}-{attempt}.log",
        )
        self._single, self._dropped = single, set()
        self._worker_run = WorkerRun(
            job,
            self._writer,
            self._emit,
            lambda case, failed: self._fail(
                case, failed.status, failed.detail, alone=failed.beside == 0
            ),
        )
        ending = self._worker_run.run(self._executor)
        if ending.ok:
            self._store_results()
        elif not (ending.restart and self._dropped):
            self._fail_culprit(ending)
        return ending

    def _fail_culprit(self, ending: Ending) -> None:
        """Record the failure of a worker that ended unexpectedly: of the case that was running, or
        of all cases if none was, for a fresh worker would fail in the same way.
        """
        cases = self._worker_run.job.by_key
        if ending.culprit in cases:
            self._fail(cases[ending.culprit], ending.status, ending.detail)
            return
        for case in cases.values():
            self._fail(
                case,
                ending.status or CRASHED,
                ending.detail or "the worker ended itself without a cause",
            )

    def _store_results(self) -> None:
        """Store the results of a worker that completed its job.

        Of a pair whose case has failed, only results that add to earlier ones are stored: a
        baseline or control without any will be measured beside another case.
        """
        job = self._worker_run.job
        results = {
            key: result
            for key, result in self._worker_run.measured.items()
            if key not in self._dropped
        }
        if job.pair and self._single.key in self._dropped:
            failed = self._results.get(self._single.key)
            results = {
                key: result
                for key, result in results.items()
                if key in self._results and failed is not None and failed.attempt == job.attempt
            }
        for key, result in results.items():
            self._results[key] = (
                merged(self._results[key], self._with_pairing(result))
                if key in self._results
                else self._with_pairing(result)
            )
        self._read_out |= results.keys()

    def _fail(self, case: AnyCase, status: str, detail: str, alone: bool = False) -> None:
        """Handle the failure of a case; `alone` says that the worker held no other."""
        if case.key in self._dropped:
            return
        self._dropped.add(case.key)
        if status == OUT_OF_MEMORY and not alone and self._single is not None:
            self._pair_over = True
            if any(
                other.role == CONTROL and other is not self._single
                for other in self._worker_run.job.cases
            ):
                self._drop_control(detail)
                return
            if case is not self._single:
                case, detail = (
                    self._single,
                    f"no memory for {self._rows[case.key]} beside it: {detail}",
                )
                self._dropped.add(case.key)
        elif (
            status == OUT_OF_MEMORY and not alone and _count_comparisons(self._worker_run.job.cases)
        ):
            self._isolate(case, detail)
            return
        self._crashes[case.key] += 1
        result = self._with_pairing(self._worker_run.result(case.key, status=status, detail=detail))
        self._results[case.key] = (
            merged(result, self._results[case.key]) if case.key in self._results else result
        )
        row = self._rows[case.key]
        self._emit(
            events.CellFailed(
                group=self._group.name,
                replicate=self._number,
                case=case.key,
                row=row,
                status=status,
                detail=detail,
            )
        )

    def _isolate(self, case: AnyCase, detail: str) -> None:
        """Isolate a case, or all cases of this worker where it is their baseline."""
        cases = self._worker_run.job.cases if case.role == BASELINE else [case]
        self._dropped |= {other.key for other in cases}
        self._mark_isolated(cases)
        self._emit_isolated(case, detail)

    def _drop_control(self, detail: str) -> None:
        """Measure the case of a pair without the control from here on, which may fit. A case that
        was not isolated yet is isolated by this.
        """
        if self._single.key not in self._isolated:
            self._emit_isolated(self._single, detail)
        self._isolated[self._single.key] = WITHOUT_CONTROL

    def _mark_isolated(self, cases: Iterable[AnyCase]) -> None:
        self._isolated = {case.key: ONE_BY_ONE for case in cases} | self._isolated

    def _emit_isolated(self, case: AnyCase, detail: str) -> None:
        self._emit(
            events.CaseIsolated(
                group=self._group.name,
                replicate=self._number,
                case=case.key,
                row=self._rows[case.key],
                detail=detail,
            )
        )

    def _worth_retrying(self, case: AnyCase) -> bool:
        """Whether another worker may get samples of this case: it has not failed, or it crashed or
        timed out fewer than `MAX_CRASHES` times.
        """
        status = self._results[case.key].status if case.key in self._results else OK
        return status == OK or (
            status in (CRASHED, TIMED_OUT) and self._crashes[case.key] < MAX_CRASHES
        )

    def _with_pairing(self, result: Result) -> Result:
        """The result with a note in `chosen` where its case is isolated, for later replicates."""
        return (
            replace(result, chosen={**result.chosen, PAIRED: self._isolated[result.case]})
            if result.case in self._isolated
            else result
        )


def _count_comparisons(cases: Iterable[AnyCase]) -> int:
    """The number of cases, without the control, that are compared with a baseline among them."""
    roles = [case.role for case in cases]
    return sum(role not in (BASELINE, CONTROL) for role in roles) if BASELINE in roles else 0


def merged(first: Result, second: Result) -> Result:
    """`first` with the worker runs and the samples of `second`, of the same case and replicate; its
    status and times are kept, and what it chose comes first.
    """
    samples = {measurement.metric: measurement for measurement in first.measurements}
    for measurement in second.measurements:
        earlier = samples.get(measurement.metric)
        samples[measurement.metric] = (
            Measurement(
                measurement.metric, measurement.unit, (*earlier.samples, *measurement.samples)
            )
            if earlier
            else measurement
        )
    return replace(
        first,
        also=(*first.also, *second.attempts),
        measurements=tuple(samples.values()),
        chosen={**second.chosen, **first.chosen},
    )
