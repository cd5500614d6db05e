"""The ranks of a job in step: rank 0 says what all do next, and learns from each how it went. None
of it happens while a call is timed.
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
"""How long a rank that failed waits for the others to come to the same end before it takes them for
stuck in a collective; heuristic.
"""

_FOREVER = timedelta(days=30)
"""The parent of the launcher watches the time."""

PER_RANK = "{}_rank{}"
"""The metric under which the sample of one rank is kept, beside the slowest rank's under the
metric's own name.
"""

Outcome = dict[str, Any]


class RankFailed(Exception):
    """A case failed on a rank, and all ranks came to know; the message names the rank and the
    cause.
    """


class Crew:
    """The ranks, as one of them sees them. `make` builds the workload of a case on this rank;
    `grace_s` is as `_GRACE_S`.
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
    ) -> "Crew":
        """Start torch.distributed among the ranks that the launcher started: NCCL for cases on
        CUDA, gloo for those on a CPU.

        `limit_s` is the parent's time limit for a case: a rank that fails alone says so well
        before.
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
            dist.PrefixStore("crew", store),
            lambda: dist.barrier(group=control),
            rank,
            world,
            cases,
            make,
            min(_GRACE_S, limit_s / 4),
        )

    def step(self, action: str, case: int) -> list[Outcome]:
        """On rank 0: have all ranks do `action` (build, warmed, call, finish, timings) on a case;
        what each says. Raises what a failure stands for.
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
        """On the other ranks: do what rank 0 says until it says that this is the end."""
        while True:
            key = f"{self._count}/todo"
            self._store.wait([key], _FOREVER)
            action, case = json.loads(self._store.get(key))
            if action == "end":
                return
            self._do(action, case)

    def end(self) -> None:
        """On rank 0: let the others go."""
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
        found = [(one.metric, one.unit, list(map(float, one.samples))) for one in read()]
        return {
            "measurements": found,
            "chosen": {str(name): str(value) for name, value in workload.chosen.items()},
        }

    def _exchange(self, outcome: Outcome) -> tuple[tuple[str, str] | None, list[Outcome]]:
        """Every rank tells rank 0 how it went, and rank 0 tells every rank whether anybody
        failed.
        """
        store, count = self._store, self._count
        self._count += 1
        store.set(f"{count}/{self.rank}", json.dumps(outcome))
        patience = self._grace if "failed" in outcome else _FOREVER
        keys, verdict = [f"{count}/{rank}" for rank in range(self.world)], f"{count}/verdict"
        try:
            store.wait([verdict] if self.rank else keys, patience)
        except RuntimeError:  # torch's store errors are all of this kind
            if "failed" not in outcome:
                raise
            _leave(*outcome["failed"])
        outcomes = []
        if self.rank == 0:
            outcomes = [json.loads(value) for value in store.multi_get(keys)]
            failures = [one["failed"] for one in outcomes if "failed" in one]
            store.set(verdict, json.dumps(failures[:1]))
            for key in (
                f"{count - 2}/{name}"
                for name in (*range(self.world), "todo", "verdict")
                if count >= 2
            ):
                store.delete_key(key)
        failed = json.loads(store.get(verdict))
        return (tuple(failed[0]) if failed else None), outcomes


class Led:
    """One case on all ranks, as the session on rank 0 sees it: times are the slowest rank's, and
    each rank's are kept beside them.
    """

    def __init__(self, case: int, crew: Crew) -> None:
        self._case, self._crew = case, crew
        self.chosen: dict[str, str] = {}
        crew.step("build", case)

    def warmed(self) -> None:
        """What any rank timed so far was warm-up."""
        self._crew.step("warmed", self._case)

    def call(self) -> dict[str, float]:
        each = [outcome["samples"] for outcome in self._crew.step("call", self._case)]
        slowest = {metric: max(samples[metric] for samples in each) for metric in each[0]}
        return slowest | {
            PER_RANK.format(metric, rank): value
            for rank, samples in enumerate(each)
            for metric, value in samples.items()
        }

    def finish(self) -> list[Measurement]:
        """What rank 0 measured, and under each metric's name and number what the other ranks
        did.
        """
        return self._read_out("finish")

    def timings(self) -> list[Measurement]:
        """As `finish`, of what was timed alone."""
        return self._read_out("timings")

    def _read_out(self, action: str) -> list[Measurement]:
        outcomes = self._crew.step(action, self._case)
        self.chosen = outcomes[0]["chosen"]
        found = [
            Measurement(metric, unit, tuple(samples))
            for metric, unit, samples in outcomes[0]["measurements"]
        ]
        for rank, outcome in enumerate(outcomes[1:], 1):
            found += [
                Measurement(PER_RANK.format(metric, rank), unit, tuple(samples))
                for metric, unit, samples in outcome["measurements"]
            ]
        return found


def _leave(status: str, detail: str) -> None:
    """End this rank, and through the launcher all others, with the cause where the launcher finds
    it.
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
