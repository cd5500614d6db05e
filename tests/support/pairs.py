"""A fake GPU whose memory does not hold all cases of a group, and the results of a run on it."""

import dataclasses
from collections import Counter

import fakes
from fake_executor import FakeExecutor, WorkerDied
from fake_gpu import FakeGpu

from swbench import store
from swbench.case import BASELINE, CONTROL
from swbench.result import OK, Measurement
from swbench.run import events, run

MODELS = ("a", "b", "c")
SECONDS = {"good": 1.0, "a": 1.1, "b": 1.2, "c": 1.3}


def plan(device="cuda", models=MODELS, seed=0, iterations=6, **protocol):
    made = fakes.plan(*models, iterations=iterations, seed=seed, **protocol)
    (group,) = made.groups
    cases = tuple(
        dataclasses.replace(case, device=device, threads=0 if device == "cuda" else 1)
        for case in group.cases
    )
    return dataclasses.replace(made, groups=(dataclasses.replace(group, cases=cases),))


class Bench:
    """Runs plans on a fake GPU with `capacity_bytes` of memory. A network needs one byte, or what
    `needs` maps its model or role to; a worker that ends frees all.
    """

    def __init__(self, folder):
        self._folder, self._runs, self.gpu = folder, 0, FakeGpu()
        self.received_events, self.observed = [], []

    def __call__(
        self,
        made,
        capacity_bytes,
        needs=None,
        writer=None,
        on_event=lambda event: None,
        crashes=lambda case: False,
        raises=lambda case, calls: False,
    ):
        gpu, bench, self.received_events, needs = self.gpu, self, [], needs or {}
        self.observed = []

        class Network:
            chosen = {"solver": "fake"}  # noqa: RUF012

            def __init__(self, case):
                self._case, self._calls = case, -2  # of the warm-up
                self._take(needs.get(case.model, needs.get(case.role, 1)))

            def call(self):
                if crashes(self._case):
                    raise WorkerDied
                self._calls += 1
                if raises(self._case, self._calls):
                    raise ZeroDivisionError("on purpose")
                gpu.clock.advance(SECONDS[self._case.model])
                return {
                    "forward_s": SECONDS[self._case.model] / 3,
                    "forward_backward_s": SECONDS[self._case.model],
                }

            def observe(self, metrics):
                bench.observed.append(
                    self._case.model
                    if self._case.role not in (BASELINE, CONTROL)
                    else self._case.role
                )
                return [Measurement("gpu_utilisation", "1", (0.5,))]

            def timings(self):
                return [Measurement("block_iterations", "1", (float(len(bench.jobs)),))]

            def finish(self):
                return [Measurement("peak_bytes", "B", (float(len(bench.jobs)),)), *self.timings()]

            def _take(self, bytes_):
                if bench.held + bytes_ > capacity_bytes:
                    raise MemoryError(f"CUDA out of memory. Tried to allocate {bytes_} B")
                bench.held += bytes_

        class Fresh(FakeExecutor):
            def run(self, job, on_message):
                bench.held = 0
                return super().run(job, on_message)

        def hear(event):
            self.received_events.append(event)
            on_event(event)

        self._runs += 1
        executor = Fresh(Network, gpu.clock)
        self.jobs = executor.jobs
        self.writer = writer or store.RunWriter.create(
            self._folder / str(self._runs), made, {"label": "box"}, ""
        )
        run(made, self.writer, executor, hear, now=gpu.clock.now)
        return store.load(self.writer.path)

    @property
    def pairing(self):
        """Whether the worker that runs has a baseline, its control and one case."""
        return len(self.jobs[-1].cases) == 3

    def models(self):
        """The models or roles of the cases of each worker."""
        return [
            tuple(
                case.model if case.role not in (BASELINE, CONTROL) else case.role
                for case in job.cases
            )
            for job in self.jobs
        ]


def by_row(stored, replicate=0):
    (group,) = stored.plan.groups
    rows = dict(zip((case.key for case in group.cases), group.rows, strict=True))
    return {rows[result.case]: result for result in stored.results if result.replicate == replicate}


def statuses(stored, replicate=0):
    return {row: result.status for row, result in by_row(stored, replicate).items()}


ALL_FINE = dict.fromkeys(("BN", "BN (control)", *MODELS), OK)


def rounds_by_worker(bench):
    """The number of rounds of each worker, with those that no result uses."""
    taken = Counter(
        event.round.attempt
        for event in bench.received_events
        if isinstance(event, events.RoundDone)
    )
    return [
        taken[event.attempt]
        for event in bench.received_events
        if isinstance(event, events.ReplicateStarted)
    ]


class Crowded(fakes.Tiny):
    """A worker process has room for three of it."""

    held = 0

    def __init__(self, case):
        if Crowded.held == 3:
            raise MemoryError
        Crowded.held += 1
        super().__init__(case)

    def timings(self):
        return []
