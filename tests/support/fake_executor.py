"""An executor for tests: the same session, in this process, on any clock."""

from collections.abc import Callable, Mapping
from typing import Any

from swbench.clock import Clock
from swbench.probes.workload import Workload
from swbench.result import CRASHED
from swbench.worker.job import Ending, Job
from swbench.worker.messages import End, Message, RestartNeeded, decode, encode
from swbench.worker.session import Session


class WorkerDied(BaseException):
    """Raised by a workload to simulate a crash of its process; `status` and `detail` are those that
    the parent would report.
    """

    def __init__(self, status: str = CRASHED, detail: str = "killed by SIGSEGV") -> None:
        self.status, self.detail = status, detail
        super().__init__(detail)


class FakeExecutor:
    """Runs jobs in this process. `make` builds a workload from a case, `look` reads the state of a
    GPU, and `jobs` holds every job that was run.
    """

    def __init__(
        self,
        make: Callable[[Any], Workload],
        clock: Clock | None = None,
        look: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._make, self._clock, self._look = make, clock, look
        self.jobs: list[Job] = []

    def run(self, job: Job, on_message: Callable[[Message], None]) -> Ending:
        self.jobs.append(job)
        running: list[str | None] = [None]
        ended: list[bool] = []
        restart: list[bool] = []

        def send(message: Message) -> None:
            message = decode(encode(message), job)
            ended.append(isinstance(message, End))
            restart.append(isinstance(message, RestartNeeded))
            on_message(message)

        def begin(case: str | None, stage: str) -> None:
            del stage
            running[0] = case

        try:
            Session(
                job,
                self._make,
                send,
                begin,
                self._clock,
                read=dict,
                manage_gc=False,
                look=self._look,
            ).run()
        except WorkerDied as crash:
            return Ending(
                ok=False,
                culprit=running[0],
                status=crash.status,
                detail=crash.detail,
            )
        return Ending(ok=ended[-1], restart=restart[-1])
