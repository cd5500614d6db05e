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
from swbench.worker.messages import Failed, Measured, Message, Warm


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
        self.measured: dict[str, Result] = {}

    def run(self, executor: Executor) -> Ending:
        """The worker from its start to its end."""
        job = self.job
        self._tell(
            events.ReplicateStarted(
                group=job.group,
                replicate=job.replicate,
                attempt=job.attempt,
                cases=tuple(job.by_key),
            )
        )
        return executor.run(job, self._hear)

    def result(self, case: str, **fields: object) -> Result:
        """What this worker has to say of the case with this key, now."""
        job = self.job
        return Result(
            case=case,
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
        if isinstance(message, Round):
            self._writer.add_round(message)
            self._tell(events.RoundDone(round=message, rounds=job.protocol.rounds))
        elif isinstance(message, Failed):
            self._on_failed(job.by_key[message.case], message)
        elif isinstance(message, Measured):
            self.measured[message.case] = self.result(
                message.case, measurements=message.measurements, chosen=message.chosen
            )
        elif isinstance(message, Warm):
            self._tell(
                events.WarmupDone(
                    group=job.group,
                    replicate=job.replicate,
                    case=message.case,
                    calls=message.calls,
                    seconds=message.seconds,
                )
            )
