"""One worker of a replicate as its parent hears it: rounds go to the disk as they come, and what is
read out becomes results.
"""

import time
from collections.abc import Callable

from swbench.case import AnyCase
from swbench.result import Result, Round
from swbench.run import events
from swbench.run.executor import Executor
from swbench.store import RunWriter
from swbench.worker.job import Ending, Job
from swbench.worker.messages import Failed, Measured, Message, RoundTaken, Warm


class Attempt:
    """Runs a job. `on_failed` hears of each case that cannot go on, at once; `measured` holds the
    results of those that were read out, by key.
    """

    def __init__(
        self,
        job: Job,
        writer: RunWriter,
        tell: Callable[[events.Event], None],
        on_failed: Callable[[AnyCase, Failed], None],
    ) -> None:
        self.job, self._writer, self._tell, self._on_failed = job, writer, tell, on_failed
        self._started = time.time()
        self._keys = [case.key for case in job.cases]
        self.measured: dict[str, Result] = {}

    def run(self, executor: Executor) -> Ending:
        """The worker from its start to its end."""
        job = self.job
        self._tell(
            events.ReplicateStarted(
                group=job.group,
                replicate=job.replicate,
                attempt=job.attempt,
                cases=tuple(self._keys),
            )
        )
        return executor.run(job, self._hear)

    def result(self, case: AnyCase, **fields: object) -> Result:
        """What this worker has to say of a case, now."""
        job = self.job
        return Result(
            case=case.key,
            group=job.group,
            replicate=job.replicate,
            attempt=job.attempt,
            environment=self._writer.environment_id,
            started=self._started,
            ended=time.time(),
            **fields,
        )

    def _hear(self, message: Message) -> None:
        job = self.job
        if isinstance(message, RoundTaken):
            one = self._round(message)
            self._writer.add_round(one)
            self._tell(events.RoundDone(round=one, rounds=job.protocol.rounds))
        elif isinstance(message, Failed):
            self._on_failed(job.cases[message.case], message)
        elif isinstance(message, Measured):
            case = job.cases[message.case]
            self.measured[case.key] = self.result(
                case, measurements=message.result_measurements(), chosen=message.chosen
            )
        elif isinstance(message, Warm):
            key = self._keys[message.case]
            self._tell(
                events.WarmupDone(
                    group=job.group,
                    replicate=job.replicate,
                    case=key,
                    calls=message.calls,
                    seconds=message.seconds,
                )
            )

    def _round(self, message: RoundTaken) -> Round:
        job, keys = self.job, self._keys
        return Round(
            group=job.group,
            replicate=job.replicate,
            attempt=job.attempt,
            index=message.index,
            order=tuple(keys[case] for case in message.order),
            samples={keys[int(case)]: samples for case, samples in message.samples.items()},
            disturbance=message.disturbance,
            blocks={keys[int(case)]: readings for case, readings in message.blocks.items()},
            started=message.started,
        )
