"""The ranks of a job in step: rank 0 sends every action to all ranks and collects their outcomes.
Nothing is exchanged while a call is timed.
"""

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from swbench.case import AnyCase
from swbench.probes.workload import Unsupported, Workload
from swbench.result import CRASHED, OUT_OF_MEMORY, UNSUPPORTED, Measurement
from swbench.worker.job import EXIT_CRASHED, EXIT_OUT_OF_MEMORY
from swbench.worker.session import cause

_GRACE_S = 5.0
"""How long a rank that failed waits for the others before it takes them for stuck in a collective;
heuristic.
"""

_FOREVER = timedelta(days=30)
"""No timeout: the parent of the launcher enforces the time limit."""

PER_RANK = "{}_rank{}"
"""Name of the metric that holds one rank's samples; the metric's own name holds the slowest
rank's.
"""

Outcome = dict[str, Any]


class RankFailed(Exception):
    """A case failed on a rank, and all ranks have dropped it; the message names the rank and the
    cause.
    """


class RankGroup:
    """The group of ranks, from this rank's side. `make` builds the workload of a case on this rank;
    `grace_s` is the wait of `_GRACE_S`.
    """

    def __init__(
        self,
        store: Any,
        barrier: Callable[[], object],
        rank: int,
        world: int,
        cases: Sequence[AnyCase],
        make: Callable[[Any], Workload],
        grace_s: float = _GRACE_S,
    ) -> None:
        self.rank, self.world, self._grace = rank, world, timedelta(seconds=grace_s)
        self._store, self._barrier, self._cases, self._make = store, barrier, cases, make
        self._ready: dict[int, Workload] = {}
        self._count = 0

    @classmethod
    def join(
        cls, cases: Sequence[AnyCase], make: Callable[[Any], Workload], limit_s: float
    ) -> "RankGroup":
        """Start torch.distributed among the ranks that the launcher started: NCCL for cases on
        CUDA, gloo for those on a CPU.

        `limit_s` is the parent's time limit for a case: a rank that fails alone must report it
        well before.
        """
        import torch
        from torch import distributed as dist

        rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        hosted = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = dist.TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            world,
            is_master=rank == 0 and not hosted,
            timeout=_FOREVER,
        )
        backend = "gloo"
        if any(case.device.startswith("cuda") for case in cases) and torch.cuda.is_available():
            local, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
            torch.cuda.set_device(local % devices)
            # NCCL lets no two ranks share a device
            backend = "nccl" if int(os.environ["LOCAL_WORLD_SIZE"]) <= devices else "gloo"
        dist.init_process_group(
            backend,
            store=dist.PrefixStore("data", store),
            rank=rank,
            world_size=world,
            timeout=timedelta(days=1),
        )
        control = dist.new_group(backend="gloo", timeout=timedelta(days=1))
        return cls(
            dist.PrefixStore("ranks", store),
            lambda: dist.barrier(group=control),
            rank,
            world,
            cases,
            make,
            min(_GRACE_S, limit_s / 4),
        )

    def step(self, action: str, case: int) -> list[Outcome]:
        """On rank 0: run `action` (build, warmed, call, finish, timings) for a case on all ranks;
        returns the outcome of each. Raises Unsupported, MemoryError or RankFailed where one failed.
        """
        self._store.set(f"{self._count}/todo", json.dumps([action, case]))
        failed, outcomes = self._do(action, case)
        if failed is None:
            return outcomes
        status, detail = failed
        raise (
            Unsupported(detail)
            if status == UNSUPPORTED
            else MemoryError(detail)
            if status == OUT_OF_MEMORY
            else RankFailed(detail)
        )

    def follow(self) -> None:
        """On the other ranks: run the actions of rank 0 until it ends them."""
        while True:
            key = f"{self._count}/todo"
            self._store.wait([key], _FOREVER)
            action, case = json.loads(self._store.get(key))
            if action == "end":
                return
            self._do(action, case)

    def end(self) -> None:
        """On rank 0: end the other ranks."""
        self._store.set(f"{self._count}/todo", json.dumps(["end", 0]))

    def _do(self, action: str, case: int) -> tuple[tuple[str, str] | None, list[Outcome]]:
        try:
            outcome = getattr(self, f"_{action}")(case)
        except (Exception, SystemExit) as problem:  # noqa: BLE001  whatever a model does is that case's result
            status, detail = cause(problem)
            outcome = {
                "failed": [status, f"rank {self.rank}: {detail}" if status == CRASHED else detail]
            }
        failed, outcomes = self._exchange(outcome)
        if failed is not None:
            self._ready.pop(case, None)
        return failed, outcomes

    def _build(self, case: int) -> Outcome:
        self._ready[case] = self._make(self._cases[case])
        return {}

    def _warmed(self, case: int) -> Outcome:
        if hasattr(self._ready[case], "warmed"):
            self._ready[case].warmed()
        return {}

    def _call(self, case: int) -> Outcome:
        if gc.isenabled():  # rank 0's session sees to its own
            gc.collect()
            gc.disable()
        gc.collect(0)
        call = self._ready[case].call
        self._barrier()
        return {"samples": call()}

    def _finish(self, case: int) -> Outcome:
        return self._read_out(case, self._ready[case].finish)

    def _timings(self, case: int) -> Outcome:
        return self._read_out(case, getattr(self._ready[case], "timings", list))

    def _read_out(self, case: int, read: Callable[[], list[Measurement]]) -> Outcome:
        workload = self._ready[case]
        measurements = [
            (measurement.metric, measurement.unit, list(map(float, measurement.samples)))
            for measurement in read()
        ]
        return {
            "measurements": measurements,
            "chosen": {str(name): str(value) for name, value in workload.chosen.items()},
        }

    def _exchange(self, outcome: Outcome) -> tuple[tuple[str, str] | None, list[Outcome]]:
        """Send this rank's outcome to rank 0, and receive from it whether any rank failed. Returns
        the failure or None and, on rank 0, the outcomes of all.
        """
        store, count = self._store, self._count
        self._count += 1
        store.set(f"{count}/{self.rank}", json.dumps(outcome))
        timeout = self._grace if "failed" in outcome else _FOREVER
        keys, verdict = [f"{count}/{rank}" for rank in range(self.world)], f"{count}/verdict"
        try:
            store.wait([verdict] if self.rank else keys, timeout)
        except RuntimeError:  # torch's store errors are all of this kind
            if "failed" not in outcome:
                raise
            _exit_with_cause(*outcome["failed"])
        outcomes = []
        if self.rank == 0:
            outcomes = [json.loads(value) for value in store.multi_get(keys)]
            failures = [outcome["failed"] for outcome in outcomes if "failed" in outcome]
            store.set(verdict, json.dumps(failures[:1]))
            for key in (
                f"{count - 2}/{name}"
                for name in (*range(self.world), "todo", "verdict")
                if count >= 2
            ):
                store.delete_key(key)
        failed = json.loads(store.get(verdict))
        return (tuple(failed[0]) if failed else None), outcomes


class RankGroupWorkload:
    """The workload of one case on all ranks, for the session on rank 0. Its times are the slowest
    rank's; the times of each rank have metrics of their own.
    """

    def __init__(self, case: int, rank_group: RankGroup) -> None:
        self._case, self._rank_group = case, rank_group
        self.chosen: dict[str, str] = {}
        rank_group.step("build", case)

    def warmed(self) -> None:
        """End the warm-up on every rank."""
        self._rank_group.step("warmed", self._case)

    def call(self) -> dict[str, float]:
        each = [outcome["samples"] for outcome in self._rank_group.step("call", self._case)]
        slowest = {metric: max(samples[metric] for samples in each) for metric in each[0]}
        return slowest | {
            PER_RANK.format(metric, rank): value
            for rank, samples in enumerate(each)
            for metric, value in samples.items()
        }

    def finish(self) -> list[Measurement]:
        """The measurements of rank 0, and those of the other ranks under `PER_RANK`."""
        return self._read_out("finish")

    def timings(self) -> list[Measurement]:
        """As `finish`, but only of what was timed."""
        return self._read_out("timings")

    def _read_out(self, action: str) -> list[Measurement]:
        outcomes = self._rank_group.step(action, self._case)
        self.chosen = outcomes[0]["chosen"]
        measurements = [
            Measurement(metric, unit, tuple(samples))
            for metric, unit, samples in outcomes[0]["measurements"]
        ]
        for rank, outcome in enumerate(outcomes[1:], 1):
            measurements += [
                Measurement(PER_RANK.format(metric, rank), unit, tuple(samples))
                for metric, unit, samples in outcome["measurements"]
            ]
        return measurements


def _exit_with_cause(status: str, detail: str) -> None:
    """Exit this rank, and through the launcher all others; the cause goes to the file that the
    launcher reads.
    """
    if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        report = {
            "message": {
                "message": detail,
                "extraInfo": {"py_callstack": "", "timestamp": str(int(time.time()))},
            }
        }
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file)
    sys.stderr.write(f"{detail}\n")
    sys.stderr.flush()
    os._exit(EXIT_OUT_OF_MEMORY if status == OUT_OF_MEMORY else EXIT_CRASHED)
