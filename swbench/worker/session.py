"""The session that measures one replicate: build, warm up, paired rounds in random order, read out.
It runs in a worker, or in a test.
"""

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from swbench.case import BASELINE
from swbench.clock import Clock, HostClock
from swbench.errors import DeviceError
from swbench.probes import disturbance
from swbench.probes.nvml import block_readings
from swbench.probes.workload import Unsupported, Workload
from swbench.result import CRASHED, FORWARD_BACKWARD, OUT_OF_MEMORY, UNSUPPORTED, Measurement, Round
from swbench.worker.case_order import CaseOrder
from swbench.worker.job import Job
from swbench.worker.messages import End, Failed, Measured, Message, RestartNeeded, Warm
from swbench.worker.warmup import WarmUp

_MEMORY_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Cannot allocate memory",
    "STATUS_ALLOC_FAILED",
)
"""Parts of torch's messages for a failed allocation where it raises a plain RuntimeError: on a CPU,
and in CUDA's libraries.
"""


class _WorkerUnfit(Exception):
    """A case ran out of memory, and the others cannot go on in this worker. What the case allocated
    may stay on the device; and if it was the baseline, their rounds give no ratio.
    """


class Session:
    """One replicate. `send(message)` returns when the parent has handled the message.
    `begin(case, stage)` announces the next step. `case` is always the key of a case.
    """

    def __init__(
        self,
        job: Job,
        make: Callable[[Any], Workload],
        send: Callable[[Message], None],
        begin: Callable[[str | None, str], None] = lambda case, stage: None,
        clock: Clock | None = None,
        read: Callable[[], Mapping[str, float]] = disturbance.read,
        manage_gc: bool = True,
        look: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """`manage_gc` False leaves this process's garbage collector alone, where the process is not
        the session's own.

        `make` builds the workload of a case. `read` reads the disturbance counters before and after
        a round, and `look` the state of the GPU before and after each case in it; empty where there
        is none.
        """
        self._job, self._make, self._send, self._begin, self._read, self._look = (
            job,
            make,
            send,
            begin,
            read,
            look,
        )
        self._now = (clock or HostClock()).now
        self._manage_gc = manage_gc
        self._workloads: dict[str, Workload] = {}
        self._observed: dict[str, list[Measurement]] = {}
        self._pair_broken = False

    def run(self) -> None:
        """Build, warm up, time and read out all cases; a case that fails is reported and dropped.

        A case that runs a GPU out of memory ends the session, and the others start in a fresh
        worker. So does a baseline that does not fit beside the others. When one case of a pair (a
        baseline and a case that are measured only for each other, `Job.pair`) fails, timing ends
        and the measurements until then are read out.
        """
        try:
            self._run()
        except _WorkerUnfit:
            self._send(RestartNeeded())

    def _run(self) -> None:
        preparing = CaseOrder(f"{self._job.seed} preparing")
        # In random order: the first case that is built gets a different memory layout, which can
        # make it slower.
        for case in preparing.draw(list(self._job.by_key)):
            if not self._pair_broken:
                self._guarded(case, "building", self._build)
        for case in preparing.draw(self._ready()):
            if not self._pair_broken:
                self._guarded(case, "warming up", self._warm)
        with _few_collections() if self._manage_gc else nullcontext():
            order, taken = CaseOrder(self._job.seed), 0
            while self._workloads and not self._pair_broken and taken < self._job.protocol.rounds:
                self._round(taken, order)
                taken += not self._pair_broken
        if self._pair_broken and not taken:
            self._workloads.clear()
        for step in (self._observe, self._finish) if self._job.observe else (self._finish,):
            for case in self._ready():
                self._guarded(case, "finishing", step)
        self._send(End())

    def _ready(self) -> list[str]:
        """The keys of the built cases, in the order of the job."""
        return [case for case in self._job.by_key if case in self._workloads]

    def _build(self, case: str) -> None:
        self._workloads[case] = self._make(self._job.by_key[case])

    def _warm(self, case: str) -> None:
        protocol, call = self._job.protocol, self._workloads[case].call
        warm = WarmUp(protocol.warmup_calls, protocol.warmup_s, protocol.warmup_cap_s)
        while not warm.done:
            started = self._now()
            sample = _checked(call())
            self._begin(case, "warming up")  # each call has the time limit to itself
            spent_s = self._now() - started
            warm.add(sample.get(FORWARD_BACKWARD, max(sample.values())), spent_s)
        if hasattr(self._workloads[case], "warmed"):
            self._workloads[case].warmed()
        self._begin(None, "warming up")
        self._send(Warm(case=case, calls=warm.calls, seconds=spent_s))

    def _round(self, index: int, orders: CaseOrder) -> None:
        order = orders.draw(self._ready())
        samples: dict[str, dict[str, float]] = {}
        blocks: dict[str, dict[str, float]] = {}
        spans_s: dict[str, float] = {}

        def block(case: str) -> None:
            began = self._now()
            samples[case] = _checked(self._workloads[case].call())
            spans_s[case] = self._now() - began

        started, before = time.time(), self._read()
        gpu_after = self._look()
        for case in order:
            self._guarded(case, "timing", block)
            gpu_before, gpu_after = gpu_after, self._look()
            if case in spans_s and (
                readings := block_readings(gpu_before, gpu_after, spans_s[case])
            ):
                blocks[case] = readings
        change = disturbance.difference(before, self._read())
        self._send(
            Round(
                group=self._job.group,
                replicate=self._job.replicate,
                attempt=self._job.attempt,
                index=index,
                order=tuple(order),
                samples=samples,
                disturbance=dict(change),
                blocks=blocks,
                started=started,
            )
        )
        if self._manage_gc:
            gc.collect(0)

    def _observe(self, case: str) -> None:
        """Measure the slow metrics in loops of seconds, before any `finish` attaches a profiler."""
        if case not in self._job.read_out and hasattr(self._workloads[case], "observe"):
            self._observed[case] = self._workloads[case].observe(self._job.observe)

    def _finish(self, case: str) -> None:
        workload = self._workloads[case]
        if case in self._job.read_out:
            measured = workload.timings() if hasattr(workload, "timings") else []
        else:
            measured = [*workload.finish(), *self._observed.get(case, ())]
        measurements = tuple(
            Measurement(
                measurement.metric, measurement.unit, tuple(map(float, measurement.samples))
            )
            for measurement in measured
        )
        chosen = {str(name): str(value) for name, value in workload.chosen.items()}
        self._begin(None, "finishing")
        self._send(Measured(case=case, measurements=measurements, chosen=chosen))

    def _guarded(self, case: str, stage: str, step: Callable[[str], None]) -> None:
        """Run `step` for a case; if it raises, that case is dropped and reported as failed."""
        self._begin(case, stage)
        try:
            step(case)
        except (Exception, SystemExit) as problem:  # noqa: BLE001  whatever a model does is that case's result
            self._workloads.pop(case, None)
            self._pair_broken = self._pair_broken or case in self._job.pair
            status, detail = cause(problem)
            self._begin(None, stage)
            failed, others = self._job.by_key[case], len(self._workloads)
            self._send(
                Failed(
                    case=case,
                    status=status,
                    detail=f"{detail} (while {stage})" if status == CRASHED else detail,
                    beside=others,
                )
            )
            if status == OUT_OF_MEMORY and (
                failed.device != "cpu" or (failed.role == BASELINE and others)
            ):
                raise _WorkerUnfit from None
        self._begin(None, stage)


@contextmanager
def _few_collections() -> Iterator[None]:
    """Turn automatic garbage collection off, and exempt existing objects from explicit ones."""
    collecting = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if collecting:
            gc.enable()


def cause(problem: BaseException) -> tuple[str, str]:
    """The status and the one-line detail that an exception stands for."""
    first = " ".join(str(problem).split())[:500]
    if isinstance(problem, Unsupported | DeviceError):
        return UNSUPPORTED, first
    exception_name = type(problem).__name__
    if (
        isinstance(problem, MemoryError)
        or exception_name == "OutOfMemoryError"
        or (isinstance(problem, RuntimeError) and any(words in first for words in _MEMORY_WORDS))
    ):
        return OUT_OF_MEMORY, first or "no memory left"
    return CRASHED, f"{exception_name}: {first}" if first else exception_name


def _checked(sample: dict[str, float]) -> dict[str, float]:
    if not sample or not all(math.isfinite(value) and value >= 0 for value in sample.values()):
        raise ValueError(f"a call returned {sample!r} instead of seconds")
    return sample
