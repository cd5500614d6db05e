"""Estimates of a running run's time and precision: from the first rounds of each of its groups, and
with a target again after each look.
"""

import statistics
import time
from collections.abc import Callable, Mapping

from swbench.plan import Plan
from swbench.result import OUT_OF_MEMORY, Round
from swbench.run import events
from swbench.run.estimate import Estimate, estimate
from swbench.stats.intervals import t_quantile
from swbench.stats.stopping import LOOKS

ROUNDS_ENOUGH, ROUNDS_LEAST = 3, 2
"""Rounds of a group that an estimate needs: usually, and where rounds are long. Fewer show no
dispersion.
"""

LONG_ROUNDS_S = 10.0
"""Total seconds of a group's rounds after which `ROUNDS_LEAST` are enough; heuristic."""


class EtaEstimator:
    """Follows the events of a run. The rounds of the first group give an estimate, in which other
    groups are scaled by FLOPs; when all have rounds, a second estimate follows.

    If the cases of a group do not fit the memory together, each runs with the baseline in a worker
    of its own. Such a group is used for an estimate when its replicate is done, with the time of
    all these workers.

    With a target precision the first rounds of one process tell too little of how processes
    scatter, so there is an estimate from all replicates since the start, or since the run was
    resumed, whenever a look has not ended it.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._reset(None, {})

    def update(self, event: events.Event) -> Estimate | None:
        """Take in an event; returns a new estimate where it gives cause for one, else None."""
        match event:
            case events.RunStarted():
                self._reset(event.plan, event.work, event.ran_out)
                self._done = dict(event.sealed)
                # loads scipy now, because the worker will wait while an estimate is made
                t_quantile(0.95, 1)
            case events.ReplicateStarted():
                self._started = self._now()
                if len(event.cases) < self._cases.get(event.group, 0):
                    self._split.add(event.group)
                if self._plan is not None and event.replicate in self._looks:
                    return self._after_look(event.replicate, self._plan)
            case events.CaseIsolated():
                self._split.add(event.group)
            case events.CellFailed() if event.status == OUT_OF_MEMORY:
                self._ran_out.add(event.group)
            case events.RoundDone() if self._plan is not None:
                return self._add(event.round, self._plan)
            case events.ReplicateDone() if self._plan is not None:
                self._elapsed_s.setdefault(event.group, {})[event.replicate] = event.elapsed_s
                self._done[event.group] = self._done.get(event.group, 0) + 1
                return self._replicate_done(event, self._plan)
            case events.GroupSettled():
                self._settled[event.group] = event.replicates
        return None

    def _reset(
        self, plan: Plan | None, work: Mapping[str, float], ran_out: frozenset[str] = frozenset()
    ) -> None:
        self._plan, self._flops, self._started = plan, work, self._now()
        self._cases = (
            {group.name: len(group.cases) for group in plan.groups} if plan is not None else {}
        )
        self._rounds: dict[str, list[Round]] = {}
        self._before_s: dict[str, float] = {}
        self._workers_s: dict[str, dict[str, float]] = {}
        self._replicate_s: dict[str, float] = {}
        self._elapsed_s: dict[str, dict[int, float]] = {}
        self._done: dict[str, int] = {}
        self._settled: dict[str, int] = {}
        self._looks = set() if plan is None or plan.protocol.target_ci is None else set(LOOKS)
        self._estimated: set[str] = set()
        self._split: set[str] = set()
        self._reported, self._ran_out = False, set(ran_out)

    def _add(self, round_: Round, plan: Plan) -> Estimate | None:
        self._workers_s.setdefault(round_.group, {})[round_.attempt] = self._now() - self._started
        if round_.group not in self._remaining_groups(plan):
            return None
        rounds = self._rounds.setdefault(round_.group, [])
        if round_.group in self._estimated:
            if self._looks:
                rounds.append(round_)
            return None
        if not rounds:
            self._before_s[round_.group] = max(
                0.0, self._now() - self._started - (round_.ended - round_.started)
            )
        rounds.append(round_)
        long = sum(other.ended - other.started for other in rounds) >= LONG_ROUNDS_S
        if (
            round_.group in self._split
            or len(rounds) < ROUNDS_LEAST
            or (len(rounds) < ROUNDS_ENOUGH and not long)
        ):
            return None
        return self._estimate(round_.group, plan)

    def _replicate_done(self, done: events.ReplicateDone, plan: Plan) -> Estimate | None:
        """Take in the end of a replicate with several workers: its time is the sum of its workers'
        times up to their last rounds.
        """
        split, workers_s = done.group in self._split, self._workers_s.pop(done.group, {})
        self._split.discard(done.group)
        if (
            not split
            or done.group in self._replicate_s
            or done.group not in self._remaining_groups(plan)
            or not self._rounds.get(done.group)
        ):
            return None
        self._replicate_s[done.group] = sum(workers_s.values())
        return self._estimate(done.group, plan)

    def _remaining_groups(self, plan: Plan) -> set[str]:
        return {group.name for group in plan.lasting(self._ran_out)} - self._settled.keys()

    def _estimate(self, group: str, plan: Plan) -> Estimate | None:
        self._estimated.add(group)
        if self._reported and not self._estimated >= self._remaining_groups(plan):
            return None
        self._reported = True
        return self._estimate_from_all(plan, self._replicate_s)

    def _after_look(self, replicates: int, plan: Plan) -> Estimate | None:
        """The estimate when the first replicate after a look starts, by the time of whole
        replicates. The very first takes longer: it compiles and measures more than times.
        """
        self._looks.remove(replicates)
        if not any(self._rounds.get(name) for name in self._remaining_groups(plan)):
            return None
        usual_s = {
            name: statistics.median(
                [time_s for number, time_s in each.items() if number] or each.values()
            )
            for name, each in self._elapsed_s.items()
        }
        return self._estimate_from_all(plan, usual_s)

    def _estimate_from_all(self, plan: Plan, replicate_s: Mapping[str, float]) -> Estimate:
        return estimate(
            [round_ for rounds in self._rounds.values() for round_ in rounds],
            plan,
            before_s=self._before_s,
            replicate_s=replicate_s,
            work=self._flops,
            ran_out=self._ran_out,
            settled=self._settled,
            done=self._done,
        )
