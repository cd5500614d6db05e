"""The progress bar on stderr: what runs, how far it is, and the time left. It is drawn only between
timed regions, and only on a terminal.
"""

import math
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from swbench.errors import printable
from swbench.result import ran_out
from swbench.run import events
from swbench.run.eta import EtaEstimator

LONG_S = 60.0
"""Expected seconds of a run from which the user gets an estimate."""


class Display:
    """Turns the events of a run into a progress bar. It never refreshes by itself: a thread that
    draws would disturb timings.
    """

    def __init__(self, console: Console | None = None, then: Sequence[str] = ()) -> None:
        """`then` names the suites that come after this one, which no estimate includes."""
        self.console = console or Console(file=sys.stderr, highlight=False)
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f} rounds"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            auto_refresh=False,
            # the last half minute may have been all warm-up, or all rounds
            speed_estimate_period=math.inf,
            disable=not self.console.is_terminal,
        )
        self._task: Any = None
        self._eta, self._later_suites = EtaEstimator(), ", ".join(then)
        self._started: events.RunStarted | None = None
        self._ran_out: set[str] = set()
        self._sealed: Counter[str] = Counter()
        self._done_samples: Counter[str] = Counter()
        self._seen: set[tuple[str, int, int, str]] = set()

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.refresh()
        self._bar.stop()

    def __call__(self, event: events.Event) -> None:
        """Show one event; for a long run also the estimate of its time and precision."""
        expected = self._eta.update(event)
        if expected is not None and expected.seconds >= LONG_S:
            replicates = event.replicate if isinstance(event, events.ReplicateStarted) else 0
            self.say(
                (f"after {replicates} replicates, the whole run: " if replicates else "")
                + expected.line()
                + (f"; {self._later_suites} not included" if self._later_suites else "")
            )
        match event:
            case events.RunStarted():
                self._started, self._ran_out = event, set(event.ran_out)
                self._seen, self._sealed = set(), Counter(event.sealed)
                self._done_samples = Counter(
                    {name: self._sealed_samples(event, name) for name in event.sealed}
                )
                self._task = self._bar.add_task(event.plan.suite, total=self._total(event), note="")
                self._bar.update(self._task, completed=self._done_rounds(event))
            case events.ReplicateStarted():
                self._note(f"{event.group}, replicate {event.replicate + 1}: warming up")
            case events.RoundDone() if self._started is not None:
                round_ = event.round
                unseen = {
                    (round_.group, round_.replicate, round_.index, key) for key in round_.samples
                } - self._seen
                # a restarted worker repeats rounds, and so does a baseline in another pair
                self._seen |= unseen
                self._done_samples[round_.group] += len(unseen)
                self._bar.update(self._task, completed=self._done_rounds(self._started))
                self._note(f"{round_.group}, replicate {round_.replicate + 1}")
            case events.ReplicateDone() if self._started is not None:
                self._sealed[event.group] += 1
                self._seen.clear()
                if event.group not in self._started.plan.given_up(
                    self._ran_out | ran_out(event.results)
                ):
                    # this counts failed cases as well
                    self._done_samples[event.group] = self._sealed_samples(
                        self._started, event.group
                    )
                    self._bar.update(self._task, completed=self._done_rounds(self._started))
            case events.CellFailed():
                self.say(
                    f"{event.row} ({event.group}): {event.status.replace('_', ' ')}: {event.detail}"
                )
            case events.CaseIsolated():
                self.say(
                    f"{event.row} ({event.group}) does not fit the memory beside the "
                    "others: it is measured in a worker of its own with the baseline"
                )
            case events.DiskSlow():
                took = (
                    f"storing one replicate took {event.seconds:.0f} s: the disk of "
                    f"{event.path} is slow"
                )
                self.say(
                    f"{took}; times are not affected, but the run takes longer; choose a "
                    "faster one with --results"
                )
            case events.FallingBack() if self._started is not None:
                self._ran_out.add(event.group)
                self._bar.update(self._task, total=self._total(self._started))
                self.say(
                    f"{event.group} does not fit the memory, so {event.fallback} is "
                    "measured in its place"
                )
            case events.GroupSettled():
                self.say(f"{event.group}: {event.reason} after {event.replicates} replicates")

    def _sealed_samples(self, run: events.RunStarted, name: str) -> int:
        """The number of samples in a group's sealed replicates, if no case failed."""
        return self._sealed[name] * run.plan.protocol.rounds * _cases(run)[name]

    def _done_rounds(self, run: events.RunStarted, names: Collection[str] | None = None) -> float:
        """The number of completed rounds of the groups with these names, or of all. A pair counts
        as the fraction of a round that its cases make up.
        """
        cases = _cases(run)
        return sum(
            taken / cases[name]
            for name, taken in self._done_samples.items()
            if names is None or name in names
        )

    def _total(self, run: events.RunStarted) -> float:
        """The number of rounds of the run, as far as is known. A group that does not fit counts
        with the rounds that it completed.
        """
        given_up = self._done_rounds(run, run.plan.given_up(self._ran_out))
        return given_up + run.plan.protocol.rounds * run.replicates * len(
            run.plan.lasting(self._ran_out)
        )

    def _note(self, text: str) -> None:
        self._bar.update(self._task, note=printable(text), refresh=True)

    def say(self, text: str) -> None:
        """One line on stderr, above the bar where there is one."""
        self._bar.console.print(printable(text), markup=False, soft_wrap=True)


def _cases(run: events.RunStarted) -> dict[str, int]:
    return {group.name: len(group.cases) for group in run.plan.groups}
