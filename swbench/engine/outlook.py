"""What a run that has just begun will take and buy, from the first rounds of each of its groups as they come."""

import time
from collections.abc import Callable, Mapping

from swbench.engine import events
from swbench.engine.pilot import Estimate, estimate
from swbench.plan import Plan
from swbench.report.intervals import t_quantile
from swbench.result import OUT_OF_MEMORY, Round

ENOUGH, LEAST = 3, 2
"""Rounds of a group after which it is judged, and after which it is where they are long; fewer tell nothing of the spread."""

LONG_ROUNDS_S = 10.0
"""Rounds that took as long as this together are not waited for any more. Heuristic: a minute of a long run is better planned on."""


class Outlook:
    """Hears a run's events. The rounds of the first group give an estimate, others scaled by their FLOPs; once all were seen, a better one follows."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._begin(None, {})

    def hear(self, event: events.Event) -> Estimate | None:
        """An estimate where the event is cause for one."""
        match event:
            case events.RunStarted():
                self._begin(event.plan, event.work, event.ran_out)
                t_quantile(0.95, 1)  # loads scipy now, for the worker will wait while an estimate is made
            case events.ReplicateStarted():
                self._started = self._now()
            case events.SetApart():
                self._undecided.add(event.group)
            case events.ReplicateDone():
                self._undecided.discard(event.group)
            case events.CellFailed() if event.status == OUT_OF_MEMORY:
                self._ran_out.add(event.group)
            case events.RoundDone() if self._plan is not None:
                return self._add(event.round, self._plan)
        return None

    def _begin(self, plan: Plan | None, work: Mapping[str, float], ran_out: frozenset[str] = frozenset()) -> None:
        self._plan, self._work, self._started = plan, work, self._now()
        self._rounds: dict[str, list[Round]] = {}
        self._before_s: dict[str, float] = {}
        self._judged: set[str] = set()
        self._undecided: set[str] = set()
        self._told, self._ran_out = False, set(ran_out)

    def _add(self, one: Round, plan: Plan) -> Estimate | None:
        if one.group in self._judged or one.group in self._undecided:  # whether such a group fits at all shows when its replicate is over
            return None
        lasting = {group.name for group in plan.lasting(self._ran_out)}
        if one.group not in lasting:
            return None
        rounds = self._rounds.setdefault(one.group, [])
        if not rounds:
            self._before_s[one.group] = max(0.0, self._now() - self._started - (one.ended - one.started))
        rounds.append(one)
        if len(rounds) < LEAST or (len(rounds) < ENOUGH and sum(each.ended - each.started for each in rounds) < LONG_ROUNDS_S):
            return None
        self._judged.add(one.group)
        if self._told and not self._judged >= lasting:
            return None
        self._told = True
        rounds = [one for rounds in self._rounds.values() for one in rounds]
        return estimate(rounds, plan, before_s=self._before_s, work=self._work, ran_out=self._ran_out)
