"""The live view on stderr: what runs, how far, how long still. Drawn between timed regions only, and not at all without a terminal."""

import math
import sys
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from swbench.engine import events
from swbench.engine.outlook import Outlook
from swbench.errors import printable

LONG_S = 60.0
"""From here on a run is long enough for the user to be told."""


class Display:
    """Turns engine events into a progress bar. It never refreshes by itself: a thread that draws would disturb what is being timed."""

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
            speed_estimate_period=math.inf,  # the last half minute may have been all warm-up, or all rounds
            disable=not self.console.is_terminal,
        )
        self._task: Any = None
        self._outlook, self._then = Outlook(), ", ".join(then)
        self._begun: events.RunStarted | None = None
        self._ran_out: set[str] = set()
        self._done: Counter[str] = Counter()
        self._seen: set[tuple[str, int, int]] = set()

    def __enter__(self) -> "Display":
        self._bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.refresh()
        self._bar.stop()

    def __call__(self, event: events.Event) -> None:
        """Show one event of the engine; for a long run also how long it will take, and what precision it will buy."""
        expected = self._outlook.hear(event)
        if expected is not None and expected.seconds >= LONG_S:
            self.say(expected.line() + (f"; {self._then} not included" if self._then else ""))
        match event:
            case events.RunStarted():
                self._begun, self._ran_out = event, set(event.ran_out)
                self._seen = set()
                self._done = Counter({name: count * event.plan.protocol.rounds for name, count in event.sealed.items()})
                self._task = self._bar.add_task(event.plan.suite, total=self._total(event), note="")
                self._bar.update(self._task, completed=self._done.total())
            case events.ReplicateStarted():
                self._note(f"{event.group}, replicate {event.replicate + 1}: warming up")
            case events.RoundDone():
                place = (event.round.group, event.round.replicate, event.round.index)
                if place not in self._seen:  # a worker that begins again, or one more pair, does the same rounds once more
                    self._seen.add(place)
                    self._done[event.round.group] += 1
                    self._bar.advance(self._task)
                self._note(f"{event.round.group}, replicate {event.round.replicate + 1}")
            case events.CellFailed():
                self.say(f"{event.row} ({event.group}): {event.status.replace('_', ' ')}: {event.detail}")
            case events.SetApart():
                self.say(f"{event.row} ({event.group}) does not fit the memory beside the others: it is measured one by one with the baseline")
            case events.DiskSlow():
                took = f"storing one replicate took {event.seconds:.0f} s: the disk of {event.path} is slow"
                self.say(f"{took}; times are not affected, but the run takes longer; choose a faster one with --results")
            case events.FallingBack() if self._begun is not None:
                self._ran_out.add(event.group)
                self._bar.update(self._task, total=self._total(self._begun))
                self.say(f"{event.group} does not fit the memory, so {event.fallback} is measured in its place")
            case events.GroupSettled():
                self.say(f"{event.group}: {event.reason} after {event.replicates} replicates")

    def _total(self, run: events.RunStarted) -> int:
        """Rounds of the whole run, as far as is known: of a group that does not fit those that were done before it showed."""
        given_up = sum(self._done[name] for name in run.plan.given_up(self._ran_out))
        return given_up + run.plan.protocol.rounds * run.replicates * len(run.plan.lasting(self._ran_out))

    def _note(self, text: str) -> None:
        self._bar.update(self._task, note=printable(text), refresh=True)

    def say(self, text: str) -> None:
        """One line on stderr, above the bar where there is one."""
        self._bar.console.print(printable(text), markup=False, soft_wrap=True)
