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
from swbench.run.worker_run import Attempt
from swbench.store import RunWriter
from swbench.worker.job import Ending, Job

OBSERVED = ("utilisation", "energy", "memory")
"""Metrics measured once a run: a steady loop of seconds tells the first two, and a profiled call
the third, which is the same in every process.
"""


DEATHS = 2
"""After as many crashes or time limits in a replicate a baseline or control is not tried again.
Heuristic: one may be chance, and each may cost the limit.
"""


class Replicate:
    """Runs a group's cases in one worker; where a case takes the worker down, the others run again,
    from the start, in a fresh one.

    A case that runs out of memory beside others is set apart: it gets a worker of its own with the
    baseline and its control, or where these three do not fit with the baseline alone. Where it is
    the baseline that does, all are set apart. A case for which there is no memory even then is
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
        apart: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`metrics` are those of the plan; the slow ones among them are observed in the first
        replicate alone.

        `apart` are the keys of cases that were set apart in another replicate, and are from the
        start in this one, with what `chosen` says of it.
        """
        self._group, self._number, self._protocol = group, number, protocol
        self._writer, self._executor, self._tell = writer, executor, on_event
        self._workloads = workloads or dict(WORKLOADS)
        self._observe = tuple(metric for metric in OBSERVED if metric in metrics and number == 0)
        self._rows = {case.key: row for case, row in zip(group.cases, group.rows, strict=True)}
        self._results: dict[str, Result] = {}
        self._apart = dict(apart)
        self._now: Attempt
        self._single: AnyCase | None = None
        self._gone: set[str] = set()
        self._read_out: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._over = False

    def run(self) -> tuple[Result, ...]:
        """The result of every case, in the order of the group; not sealed yet."""
        cases = self._group.cases
        if any(case.role == BASELINE and case.key in self._apart for case in cases):
            # also one that had failed before: without a baseline it would have no ratio
            self._set_apart(cases)
        together = [case for case in cases if case.key not in self._apart]
        if not self._apart or _compared(together):
            self._measure(together)
        if any(case.role == BASELINE for case in cases):
            # last, for it is beside every other
            for case in sorted(cases, key=lambda case: case.role == CONTROL):
                if case.role != BASELINE and case.key not in self._results:
                    if case.role == CONTROL and self._apart:
                        self._set_apart([case])
                    self._pair(case)
        self._measure([case for case in cases if case.key not in self._results])
        return tuple(self._results[case.key] for case in cases)

    def _pair(self, single: AnyCase) -> None:
        """Measure one case with what it is compared with; whichever of these runs out of memory, it
        is `single` that does not fit.

        Where the baseline dies the next worker has a fresh one, until that is no use; then `single`
        has its worker to itself, and no ratio.
        """
        without = self._apart.get(single.key) == WITHOUT_CONTROL
        for roles in ((BASELINE,),) if without else ((BASELINE, CONTROL), (BASELINE,)):
            self._over = False
            while single.key not in self._results and not self._over:
                company = [
                    one.role for one in self._group.cases if one.role in roles and self._sound(one)
                ]
                beside = company if BASELINE in company else ()
                self._attempt(
                    [one for one in self._group.cases if one is single or one.role in beside],
                    single,
                )

    def _measure(self, left: list[AnyCase]) -> None:
        """Worker after worker until each of the cases has a result or is set apart, or what is left
        of them is one pair.
        """
        while left and _compared(left) != 1:
            if self._attempt(left).ok:
                break
            left = [case for case in left if case.key not in self._gone]

    def _attempt(self, cases: list[AnyCase], single: AnyCase | None = None) -> Ending:
        """One worker, whose failures are told and whose results are kept; `single` is the case that
        a pair is measured for.
        """
        paired, name = single is not None and single.key in self._apart, uuid.uuid4().hex[:8]
        group = re.sub(r"[^A-Za-z0-9]+", "-", self._group.name)[:60]
        job = Job(
            group=self._group.name,
            cases=tuple(cases),
            replicate=self._number,
            attempt=name,
            protocol=self._protocol,
            workloads=self._workloads,
            observe=self._observe,
            pair=tuple(
                case.key for case in cases if paired and (case is single or case.role == BASELINE)
            ),
            known=tuple(case.key for case in cases if case.key in self._read_out),
            log=f"{group}-r{self._number}-{name}.log",
        )
        self._single, self._gone = single, set()
        self._now = Attempt(
            job,
            self._writer,
            self._tell,
            lambda case, failed: self._fail(
                case, failed.status, failed.detail, alone=failed.beside == 0
            ),
        )
        ending = self._now.run(self._executor)
        if ending.ok:
            self._keep()
        elif not (ending.again and self._gone):
            self._blame(ending)
        return ending

    def _blame(self, ending: Ending) -> None:
        """A worker that ended unasked: the case that it was running has failed, or all, for a fresh
        worker would go the same way.
        """
        cases = self._now.job.by_key
        if ending.culprit in cases:
            self._fail(cases[ending.culprit], ending.status, ending.detail)
            return
        for case in cases.values():
            self._fail(
                case,
                ending.status or CRASHED,
                ending.detail or "the worker ended itself without a cause",
            )

    def _keep(self) -> None:
        """The results of a worker that did all it was asked to.

        Of a pair whose case failed for good only what adds to other results: a baseline or control
        without any is yet to be measured beside a case that lasts.
        """
        job = self._now.job
        found = {key: result for key, result in self._now.measured.items() if key not in self._gone}
        if job.pair and self._single.key in self._gone:
            failed = self._results.get(self._single.key)
            found = {
                key: result
                for key, result in found.items()
                if key in self._results and failed is not None and failed.attempt == job.attempt
            }
        for key, result in found.items():
            self._results[key] = (
                joined(self._results[key], self._labelled(result))
                if key in self._results
                else self._labelled(result)
            )
        self._read_out |= found.keys()

    def _fail(self, case: AnyCase, status: str, detail: str, alone: bool = False) -> None:
        """A case cannot go on; `alone` says that no other was held in the worker."""
        if case.key in self._gone:
            return
        self._gone.add(case.key)
        if status == OUT_OF_MEMORY and not alone and self._single is not None:
            self._over = True
            if any(one.role == CONTROL and one is not self._single for one in self._now.job.cases):
                self._leave_control(detail)
                return
            if case is not self._single:
                case, detail = (
                    self._single,
                    f"no memory for {self._rows[case.key]} beside it: {detail}",
                )
                self._gone.add(case.key)
        elif status == OUT_OF_MEMORY and not alone and _compared(self._now.job.cases):
            self._part(case, detail)
            return
        self._deaths[case.key] += 1
        result = self._labelled(self._now.result(case.key, status=status, detail=detail))
        self._results[case.key] = (
            joined(result, self._results[case.key]) if case.key in self._results else result
        )
        row = self._rows[case.key]
        self._tell(
            events.CellFailed(
                group=self._group.name,
                replicate=self._number,
                case=case.key,
                row=row,
                status=status,
                detail=detail,
            )
        )

    def _part(self, case: AnyCase, detail: str) -> None:
        """Set a case apart, or all of this worker's where it is the one that they are compared
        with.
        """
        parted = self._now.job.cases if case.role == BASELINE else [case]
        self._gone |= {one.key for one in parted}
        self._set_apart(parted)
        self._tell_apart(case, detail)

    def _leave_control(self, detail: str) -> None:
        """Without the control a pair may fit. Where the three are all there is, this is what sets
        its case apart.
        """
        if self._single.key not in self._apart:
            self._tell_apart(self._single, detail)
        self._apart[self._single.key] = WITHOUT_CONTROL

    def _set_apart(self, cases: Iterable[AnyCase]) -> None:
        self._apart = {case.key: ONE_BY_ONE for case in cases} | self._apart

    def _tell_apart(self, case: AnyCase, detail: str) -> None:
        self._tell(
            events.SetApart(
                group=self._group.name,
                replicate=self._number,
                case=case.key,
                row=self._rows[case.key],
                detail=detail,
            )
        )

    def _sound(self, case: AnyCase) -> bool:
        """Whether a further worker with this case may have its samples: it has not failed, or not
        of what must happen again, and not often.
        """
        status = self._results[case.key].status if case.key in self._results else OK
        return status == OK or (status in (CRASHED, TIMED_OUT) and self._deaths[case.key] < DEATHS)

    def _labelled(self, result: Result) -> Result:
        """With the word that it was set apart, where it was, for later replicates to know."""
        return (
            replace(result, chosen={**result.chosen, PAIRED: self._apart[result.case]})
            if result.case in self._apart
            else result
        )


def _compared(cases: Iterable[AnyCase]) -> int:
    """How many of the cases have a baseline among them to be compared with; the control, which
    shows the noise, is none.
    """
    roles = [case.role for case in cases]
    return sum(role not in (BASELINE, CONTROL) for role in roles) if BASELINE in roles else 0


def joined(one: Result, other: Result) -> Result:
    """`one` with the worker runs and the samples of `other`, of the same case and replicate; its
    status and times are kept, and what it chose comes first.
    """
    samples = {measured.metric: measured for measured in one.measurements}
    for measured in other.measurements:
        before = samples.get(measured.metric)
        samples[measured.metric] = (
            Measurement(measured.metric, measured.unit, (*before.samples, *measured.samples))
            if before
            else measured
        )
    return replace(
        one,
        also=(*one.also, *other.attempts),
        measurements=tuple(samples.values()),
        chosen={**other.chosen, **one.chosen},
    )
