"""What the parent does with one worker process: it stores rounds as they arrive, and turns
measurements into results. A replicate needs a second worker if a case ends the first.
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


class WorkerRun:
    """Runs a job. `on_failed` is called at once for each case that fails. `measured` maps the key
    of each case that was measured to the end to its result.
    """

    def __init__(
        self,
        job: Job,
        writer: RunWriter,
        emit: Callable[[events.Event], None],
        on_failed: Callable[[AnyCase, Failed], None],
    ) -> None:
        self.job, self._writer, self._emit, self._on_failed = job, writer, emit, on_failed
        self._started = time.time()
        self.measured: dict[str, Result] = {}

    def run(self, executor: Executor) -> Ending:
        """Run the worker to its end."""
        job = self.job
        self._emit(
            events.ReplicateStarted(
                group=job.group,
                replicate=job.replicate,
                attempt=job.attempt,
                cases=tuple(job.by_key),
            )
        )
        return executor.run(job, self._handle)

    def result(self, case: str, **fields: object) -> Result:
        """A result of this worker for the case with this key, as of now."""
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

    def _handle(self, message: Message) -> None:
        job = self.job
        if isinstance(message, Round):
            self._writer.add_round(message)
            self._emit(events.RoundDone(round=message, rounds=job.protocol.rounds))
        elif isinstance(message, Failed):
            self._on_failed(job.by_key[message.case], message)
        elif isinstance(message, Measured):
            self.measured[message.case] = self.result(
                message.case, measurements=message.measurements, chosen=message.chosen
            )
        elif isinstance(message, Warm):
            self._emit(
                events.WarmupDone(
                    group=job.group,
                    replicate=job.replicate,
                    case=message.case,
                    calls=message.calls,
                    seconds=message.seconds,
                )
            )
