"""One replicate of one group: worker after worker until every case has its result."""

import re
import time
import uuid
from collections.abc import Callable

from swbench.case import AnyCase
from swbench.engine import events
from swbench.engine.executor import Executor
from swbench.engine.job import Ending, Job
from swbench.engine.messages import Failed, Measured, Message, RoundTaken, Warm
from swbench.plan import Group, Protocol
from swbench.probes import WORKLOADS
from swbench.result import CRASHED, Result, Round
from swbench.store import RunWriter

OBSERVED = ("utilisation", "energy", "memory")
"""Metrics measured once a run: a steady loop of seconds tells the first two, and a profiled call the third, which is the same in every process."""


class Replicate:
    """Runs a group's cases in one worker; where a case takes the worker down, the others run again, from the start, in a fresh one."""

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
    ) -> None:
        """`metrics` are those of the plan; the slow ones among them are observed in the first replicate alone."""
        self._group, self._number, self._protocol = group, number, protocol
        self._writer, self._executor, self._tell = writer, executor, on_event
        self._workloads = workloads or dict(WORKLOADS)
        self._observe = tuple(metric for metric in OBSERVED if metric in metrics and number == 0)
        self._rows = {case.key: row for case, row in zip(group.cases, group.rows, strict=True)}
        self._results: dict[str, Result] = {}
        self.rounds: list[Round] = []

    def run(self) -> tuple[Result, ...]:
        """The result of every case, in the order of the group; not sealed yet."""
        left = list(self._group.cases)
        while left:
            ending = self._attempt(left)
            if ending.ok:
                break
            if ending.again and any(case.key in self._results for case in left):
                pass
            elif ending.culprit is None:  # nobody to blame: a fresh worker would go the same way
                for case in left:
                    self._fail(case, ending.status or CRASHED, ending.detail or "the worker ended itself without a cause")
            else:
                self._fail(left[ending.culprit], ending.status, ending.detail)
            left = [case for case in left if case.key not in self._results]
        return tuple(self._results[case.key] for case in self._group.cases)

    def _attempt(self, cases: list[AnyCase]) -> Ending:
        self._started, self._name = time.time(), uuid.uuid4().hex[:8]
        self._cases, self._measured, self.rounds = cases, {}, []
        slug = re.sub(r"[^A-Za-z0-9]+", "-", self._group.name)[:60]
        job = Job(
            group=self._group.name,
            cases=tuple(cases),
            replicate=self._number,
            attempt=self._name,
            protocol=self._protocol,
            workloads=self._workloads,
            observe=self._observe,
            log=f"{slug}-r{self._number}-{self._name}.log",
        )
        self._tell(events.ReplicateStarted(group=job.group, replicate=self._number, attempt=self._name, cases=tuple(case.key for case in cases)))
        ending = self._executor.run(job, self._on_message)
        if ending.ok:
            self._results |= {key: result for key, result in self._measured.items() if key not in self._results}
        return ending

    def _on_message(self, message: Message) -> None:
        if isinstance(message, RoundTaken):
            keys = [case.key for case in self._cases]
            one = Round(
                group=self._group.name,
                replicate=self._number,
                attempt=self._name,
                index=message.index,
                order=tuple(keys[case] for case in message.order),
                samples={keys[int(case)]: samples for case, samples in message.samples.items()},
                disturbance=message.disturbance,
                blocks={keys[int(case)]: readings for case, readings in message.blocks.items()},
                started=message.started,
            )
            self._writer.add_round(one)
            self.rounds.append(one)
            self._tell(events.RoundDone(round=one, rounds=self._protocol.rounds))
        elif isinstance(message, Failed):
            self._fail(self._cases[message.case], message.status, message.detail)
        elif isinstance(message, Measured):
            case = self._cases[message.case]
            self._measured[case.key] = self._result(case, measurements=message.result_measurements(), chosen=message.chosen)
        elif isinstance(message, Warm):
            key = self._cases[message.case].key
            self._tell(events.WarmupDone(group=self._group.name, replicate=self._number, case=key, calls=message.calls, seconds=message.seconds))

    def _fail(self, case: AnyCase, status: str, detail: str) -> None:
        if case.key in self._results:
            return
        self._results[case.key] = self._result(case, status=status, detail=detail)
        row = self._rows[case.key]
        self._tell(events.CellFailed(group=self._group.name, replicate=self._number, case=case.key, row=row, status=status, detail=detail))

    def _result(self, case: AnyCase, **fields: object) -> Result:
        return Result(
            case=case.key,
            group=self._group.name,
            replicate=self._number,
            attempt=self._name,
            environment=self._writer.environment_id,
            started=self._started,
            ended=time.time(),
            **fields,
        )
