"""What a run that has just begun will take and buy, from the first rounds of each of its groups as
they come.
"""

import time
from collections.abc import Callable, Mapping

from swbench.plan import Plan
from swbench.result import OUT_OF_MEMORY, Round
from swbench.run import events
from swbench.run.estimate import Estimate, estimate
from swbench.stats.intervals import t_quantile

ENOUGH, LEAST = 3, 2
"""Rounds of a group after which it is judged, and after which it is where they are long; fewer tell
nothing of the spread.
"""

LONG_ROUNDS_S = 10.0
"""Rounds that took as long as this together are not waited for any more. Heuristic: a minute of a
long run is better planned on.
"""


class Outlook:
    """Hears a run's events. The rounds of the first group give an estimate, others scaled by their
    FLOPs; once all were seen, a better one follows.

    A group whose cases have several workers in a replicate, as in pairs, is judged when that
    replicate is over, by what each of these took.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begin(None, {})

    def hear(self, event: events.Event) -> Estimate | None:
        """An estimate where the event is cause for one."""
        match event:
            case events.RunStarted():
                self._begin(event.plan, event.work, event.ran_out)
                # loads scipy now, for the worker will wait while an estimate is made
                t_quantile(0.95, 1)
            case events.ReplicateStarted():
                self._started = self._now()
                if len(event.cases) < self._cases.get(event.group, 0):
                    self._parted.add(event.group)
            case events.SetApart():
                self._parted.add(event.group)
            case events.CellFailed() if event.status == OUT_OF_MEMORY:
                self._ran_out.add(event.group)
            case events.RoundDone() if self._plan is not None:
                return self._add(event.round, self._plan)
            case events.ReplicateDone() if self._plan is not None:
                return self._whole(event, self._plan)
        return None

    def _begin(
        self, plan: Plan | None, work: Mapping[str, float], ran_out: frozenset[str] = frozenset()
    ) -> None:
        self._plan, self._work, self._started = plan, work, self._now()
        self._cases = (
            {group.name: len(group.cases) for group in plan.groups} if plan is not None else {}
        )
        self._rounds: dict[str, list[Round]] = {}
        self._before_s: dict[str, float] = {}
        self._workers_s: dict[str, dict[str, float]] = {}
        self._whole_s: dict[str, float] = {}
        self._judged: set[str] = set()
        self._parted: set[str] = set()
        self._told, self._ran_out = False, set(ran_out)

    def _add(self, one: Round, plan: Plan) -> Estimate | None:
        self._workers_s.setdefault(one.group, {})[one.attempt] = self._now() - self._started
        if one.group in self._judged or one.group not in self._lasting(plan):
            return None
        rounds = self._rounds.setdefault(one.group, [])
        if not rounds:
            self._before_s[one.group] = max(
                0.0, self._now() - self._started - (one.ended - one.started)
            )
        rounds.append(one)
        long = sum(each.ended - each.started for each in rounds) >= LONG_ROUNDS_S
        if one.group in self._parted or len(rounds) < LEAST or (len(rounds) < ENOUGH and not long):
            return None
        return self._judge(one.group, plan)

    def _whole(self, done: events.ReplicateDone, plan: Plan) -> Estimate | None:
        """Whether a group of which something did not fit fits at all shows now, and how long its
        workers take together: those with rounds, to their last.
        """
        parted, workers_s = done.group in self._parted, self._workers_s.pop(done.group, {})
        self._parted.discard(done.group)
        if (
            not parted
            or done.group in self._whole_s
            or done.group not in self._lasting(plan)
            or not self._rounds.get(done.group)
        ):
            return None
        self._whole_s[done.group] = sum(workers_s.values())
        return self._judge(done.group, plan)

    def _lasting(self, plan: Plan) -> set[str]:
        return {group.name for group in plan.lasting(self._ran_out)}

    def _judge(self, group: str, plan: Plan) -> Estimate | None:
        self._judged.add(group)
        if self._told and not self._judged >= self._lasting(plan):
            return None
        self._told = True
        rounds = [one for rounds in self._rounds.values() for one in rounds]
        return estimate(
            rounds,
            plan,
            before_s=self._before_s,
            whole_s=self._whole_s,
            work=self._work,
            ran_out=self._ran_out,
        )
