"""The measuring itself: build, warm up, paired rounds in random order, read out. It runs in a
worker, or in a test.
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
from swbench.worker.case_order import Order
from swbench.worker.job import Job
from swbench.worker.messages import Again, End, Failed, Measured, Message, Warm
from swbench.worker.warmup import WarmUp

_MEMORY_WORDS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Cannot allocate memory",
    "STATUS_ALLOC_FAILED",
)
"""How torch words a failed allocation where it raises a plain RuntimeError: on a CPU, and in CUDA's
libraries.
"""


class _Spent(Exception):
    """A case ran out of memory, and the others cannot go on here: a device keeps what it leaves
    behind, and without a baseline their rounds show no ratio.
    """


class Session:
    """One replicate. `send` returns when the parent has dealt with the message; `begin` says what
    runs next (the key of a case or None, and the stage). Cases go by their keys throughout.
    """

    def __init__(
        self,
        job: Job,
        make: Callable[[Any], Workload],
        send: Callable[[Message], None],
        begin: Callable[[str | None, str], None] = lambda case, stage: None,
        clock: Clock | None = None,
        read: Callable[[], Mapping[str, float]] = disturbance.read,
        collects: bool = True,
        look: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        """`collects` False leaves this process's garbage collector alone, where the process is not
        the session's own.

        `read` gives a round's disturbance before and after it, and `look` the state of the GPU
        before and after each case in it; empty where there is none.
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
        self._collects = collects
        self._workloads: dict[str, Workload] = {}
        self._observed: dict[str, list[Measurement]] = {}
        self._parted = False

    def run(self) -> None:
        """Everything from building to reading out; a case that fails is reported and left out from
        there on.

        One that runs a GPU out of memory ends the session, for the others to begin again in a clean
        worker; so does a baseline for which there is no memory beside them. Where one half of a
        pair fails, what was measured until then is read out, and nothing further is.
        """
        try:
            self._run()
        except _Spent:
            self._send(Again())

    def _run(self) -> None:
        preparing = Order(f"{self._job.seed} preparing")
        # what is built first has other memory, and may be slower for it
        for case in preparing.draw(list(self._job.by_key)):
            if not self._parted:
                self._guarded(case, "building", self._build)
        for case in preparing.draw(self._ready()):
            if not self._parted:
                self._guarded(case, "warming up", self._warm)
        with _few_collections() if self._collects else nullcontext():
            order, taken = Order(self._job.seed), 0
            while self._workloads and not self._parted and taken < self._job.protocol.rounds:
                self._round(taken, order)
                taken += not self._parted
        if self._parted and not taken:
            self._workloads.clear()
        for step in (self._observe, self._finish) if self._job.observe else (self._finish,):
            for case in self._ready():
                self._guarded(case, "finishing", step)
        self._send(End())

    def _ready(self) -> list[str]:
        """The cases that can go on, in the order of the job whatever the order they were built
        in.
        """
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

    def _round(self, index: int, orders: Order) -> None:
        order = orders.draw(self._ready())
        samples: dict[str, dict[str, float]] = {}
        blocks: dict[str, dict[str, float]] = {}
        spans_s: dict[str, float] = {}

        def block(case: str) -> None:
            began = self._now()
            samples[case] = _checked(self._workloads[case].call())
            spans_s[case] = self._now() - began

        started, before = time.time(), self._read()
        seen = self._look()
        for case in order:
            self._guarded(case, "timing", block)
            last, seen = seen, self._look()
            if case in spans_s and (readings := block_readings(last, seen, spans_s[case])):
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
        if self._collects:
            gc.collect(0)

    def _observe(self, case: str) -> None:
        """Loops of seconds, before any `finish` attaches a profiler to the process."""
        if case not in self._job.known and hasattr(self._workloads[case], "observe"):
            self._observed[case] = self._workloads[case].observe(self._job.observe)

    def _finish(self, case: str) -> None:
        workload = self._workloads[case]
        if case in self._job.known:
            measured = workload.timings() if hasattr(workload, "timings") else []
        else:
            measured = [*workload.finish(), *self._observed.get(case, ())]
        found = tuple(
            Measurement(one.metric, one.unit, tuple(map(float, one.samples))) for one in measured
        )
        chosen = {str(name): str(value) for name, value in workload.chosen.items()}
        self._begin(None, "finishing")
        self._send(Measured(case=case, measurements=found, chosen=chosen))

    def _guarded(self, case: int, stage: str, step: Callable[[str], None]) -> None:
        """Run a step of one case; if it raises, that case has failed and no other."""
        self._begin(case, stage)
        try:
            step(case)
        except (Exception, SystemExit) as problem:  # noqa: BLE001  whatever a model does is that case's result
            self._workloads.pop(case, None)
            self._parted = self._parted or case in self._job.pair
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
                raise _Spent from None
        self._begin(None, stage)


@contextmanager
def _few_collections() -> Iterator[None]:
    """No collection but those asked for; what was built before is not walked again by them."""
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
    named = type(problem).__name__
    if (
        isinstance(problem, MemoryError)
        or named == "OutOfMemoryError"
        or (isinstance(problem, RuntimeError) and any(w in first for w in _MEMORY_WORDS))
    ):
        return OUT_OF_MEMORY, first or "no memory left"
    return CRASHED, f"{named}: {first}" if first else named


def _checked(sample: dict[str, float]) -> dict[str, float]:
    if not sample or not all(math.isfinite(value) and value >= 0 for value in sample.values()):
        raise ValueError(f"a call returned {sample!r} instead of seconds")
    return sample
