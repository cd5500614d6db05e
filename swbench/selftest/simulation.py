"""Runs on a simulated machine with a known true ratio: the bias of the estimate, and the coverage
of its interval.
"""

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swbench.plan import FASTER_HALF
from swbench.result import FORWARD, Round
from swbench.stats.estimators import Pair
from swbench.stats.intervals import Interval, log_ratio
from swbench.stats.samples import by_replicate, pairs, ratio_pairs
from swbench.stats.stopping import Stopping
from swbench.worker.case_order import CaseOrder

BASELINE, CONTROL, VARIANT = "baseline", "control", "variant"
CELLS = (BASELINE, CONTROL, VARIANT)

Draw = Callable[[Sequence[str]], Sequence[str]]
"""The cells -> the order in which the next round runs them."""


@dataclass(frozen=True)
class Machine:
    """The disturbances of a simulated machine. Sizes are shares of a sample's time; the defaults
    are worse than the shared machines that were measured.

    All cells of a process share a factor of standard deviation `between_common` (which pairing
    cancels), and each cell has one of its own that makes ratios differ by `between` from process to
    process. The machine slows by `drift` over a period, steps to `step` times its time and back
    about every `step_every_s`, adds a spike to a share `spike_rate` of samples, and a cost that
    depends on the position in the round.
    """

    between: float = 0.03
    between_common: float = 0.05
    noise: float = 0.02
    drift: float = 0.2
    drift_period_s: float = 30.0
    step: float = 1.4
    step_every_s: float = 3.0
    spike_rate: float = 0.05
    spike: float = 0.5
    slots: tuple[float, ...] = (0.04, 0.01, 0.0)


class FakeClock:
    """A clock that advances only when work is done on it, on a machine that drifts and steps."""

    def __init__(self, machine: Machine, rng: random.Random) -> None:
        self.now = 0.0
        self._machine, self._rng = machine, rng
        self._phase = rng.uniform(0, 2 * math.pi)
        self._stepped = rng.random() < 0.5
        self._change = rng.expovariate(1 / machine.step_every_s)

    def _slowness(self) -> float:
        drift = 1 + self._machine.drift * math.sin(
            self._phase + 2 * math.pi * self.now / self._machine.drift_period_s
        )
        return drift * (self._machine.step if self._stepped else 1.0)

    def work(self, seconds: float) -> float:
        """Do work that takes `seconds` on the undisturbed machine; returns how long it took. A step
        may occur in the middle.
        """
        start, remaining_s = self.now, seconds
        while True:
            slowness = self._slowness()
            if self.now + remaining_s * slowness <= self._change:
                self.now += remaining_s * slowness
                return self.now - start
            remaining_s -= max(0.0, self._change - self.now) / slowness
            self.now, self._stepped = self._change, not self._stepped
            self._change += self._rng.expovariate(1 / self._machine.step_every_s)


def worker_order(seed: str) -> Draw:
    """The order of rounds that the worker itself draws."""
    return CaseOrder(seed).draw


@dataclass(frozen=True)
class Experiment:
    """A run to simulate: `ratio` is the truth, `base_s` the time of the baseline, `rounds` those of
    each replicate.
    """

    ratio: float = 1.05
    base_s: float = 0.02
    rounds: int = 20
    machine: Machine = field(default_factory=Machine)

    def replicate(
        self, seed: int, replicate: int, orders: Callable[[str], Draw] = worker_order
    ) -> list[Round]:
        """The rounds of one simulated process, in the order that `orders` draws from the worker's
        seed, timed on a fake clock of its own.
        """
        draw = orders(f"{seed}/replay/{replicate}")
        rng = random.Random(f"{seed} {replicate}")
        machine, clock = self.machine, FakeClock(self.machine, rng)
        common_effect = rng.gauss(0, machine.between_common)
        cell_effect = {
            cell: math.exp(common_effect + rng.gauss(0, machine.between / math.sqrt(2)))
            for cell in CELLS
        }
        work = {
            cell: self.base_s * cell_effect[cell] * (self.ratio if cell == VARIANT else 1.0)
            for cell in CELLS
        }
        rounds = []
        for index in range(self.rounds):
            sequence, samples, started = draw(CELLS), {}, clock.now
            for position, cell in enumerate(sequence):
                duration_s = (
                    work[cell]
                    * math.exp(rng.gauss(0, machine.noise))
                    * (1 + machine.slots[min(position, len(machine.slots) - 1)])
                )
                if rng.random() < machine.spike_rate:
                    duration_s += work[cell] * rng.expovariate(1 / machine.spike)
                samples[cell] = {FORWARD: clock.work(duration_s)}
            rounds.append(
                Round(
                    group="replay",
                    replicate=replicate,
                    attempt="1",
                    index=index,
                    order=tuple(sequence),
                    samples=samples,
                    started=started,
                ),
            )
        return rounds


@dataclass(frozen=True)
class Coverage:
    """The results of many simulated runs: `covered`, the share of intervals that hold the true
    ratio, and `bias`, the mean error of the estimate (log scale).
    """

    runs: int
    covered: float
    bias: float
    half_width: float
    replicates: float


Analysis = Callable[[Sequence[Round], str], Interval]
"""(rounds of a run, cell) -> the interval that is judged."""


def analyse_processes(rounds: Sequence[Round], cell: str) -> Interval:
    """The protocol's own analysis: the process is the replicate."""
    return log_ratio(_pairs(rounds, cell), estimator=FASTER_HALF)


def _pairs(rounds: Sequence[Round], cell: str) -> list[list[Pair]]:
    return ratio_pairs(by_replicate(rounds), (BASELINE, CONTROL), cell, FORWARD, FASTER_HALF)


def analyse_rounds_as_replicates(rounds: Sequence[Round], cell: str) -> Interval:
    """A wrong analysis, for comparison: the rounds of the first process as independent
    replicates.
    """
    first = pairs([round_ for round_ in rounds if round_.replicate == 0], BASELINE, cell, FORWARD)[
        0
    ]
    return log_ratio([[pair] for pair in first])


def simulate(
    experiment: Experiment,
    *,
    runs: int,
    replicates: int = 5,
    analysis: Analysis = analyse_processes,
    orders: Callable[[str], Draw] = worker_order,
    seed: int = 0,
) -> Coverage:
    """The coverage of `runs` simulated runs of a fixed number of `replicates`."""
    intervals = []
    for run in range(runs):
        rounds = [
            round_
            for k in range(replicates)
            for round_ in experiment.replicate(seed + run, k, orders)
        ]
        intervals.append(analysis(rounds, VARIANT))
    return _coverage(intervals, experiment.ratio, replicates)


def simulate_stopping(
    experiment: Experiment, stopping: Stopping, *, runs: int, seed: int = 0
) -> Coverage:
    """The coverage of `runs` simulated runs that end as `stopping` decides, by the interval at
    which it stopped.
    """
    intervals = []
    for run in range(runs):
        rounds: list[Round] = []
        for k in range(stopping.most):
            rounds += experiment.replicate(seed + run, k)
            if stopping.due(k + 1):
                decision = stopping.decide({VARIANT: _pairs(rounds, VARIANT)}, FASTER_HALF)
                if decision.stop:
                    break
        intervals.append(decision.intervals[VARIANT])
    return _coverage(
        intervals, experiment.ratio, statistics.fmean(interval.replicates for interval in intervals)
    )


def _coverage(intervals: Sequence[Interval], ratio: float, replicates: float) -> Coverage:
    return Coverage(
        runs=len(intervals),
        covered=sum(interval.holds(ratio) for interval in intervals) / len(intervals),
        bias=statistics.fmean(interval.effect for interval in intervals) - math.log(ratio),
        half_width=statistics.median(interval.half_width for interval in intervals),
        replicates=replicates,
    )
