"""What a run measured, cell by cell: statuses, seconds, ratios to the baseline, and everything that
is measured once a case.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from swbench.case import CONTROL, AnyCase
from swbench.plan import Group
from swbench.result import (
    COUNTED,
    FORWARD,
    FORWARD_BACKWARD,
    OK,
    PAIRED,
    STATUSES,
    WALLS,
    Result,
    Round,
    ran_out,
)
from swbench.stats.intervals import Absolute, Interval, absolute, log_ratio
from swbench.stats.samples import by_replicate, noise_floor, ratio_pairs, seconds_of, undisturbed
from swbench.stats.stopping import confidence_of
from swbench.stats.verdict import UNSTABLE, unstable, verdict

if TYPE_CHECKING:
    from swbench.store import StoredRun

TIMES = (FORWARD, FORWARD_BACKWARD)

Replicates = list[list[Round]]
"""The rounds of one group, a list a replicate."""

PENDING = "not finished"
"""The status of a planned cell that no replicate has sealed yet."""


BUSY_ENOUGH = 0.9
"""Below this share of kernels in the wall time a GPU waits for its host: launch-bound
(docs/measuring-gpu.md).
"""


@dataclass(frozen=True)
class Timing:
    """One timing metric of one cell. `ratio` is to the group's baseline, `quiet` the same without
    disturbed rounds and blocks (None where none was marked).
    """

    absolute: Absolute
    ratio: Interval | None
    quiet: Interval | None
    verdict: str
    unstable: bool


@dataclass(frozen=True)
class Measured:
    """One case of one group.

    `chosen` is what was decided at run time, `counted` what counting has to say of its numbers.
    `status` is the worst of its replicates, `failed` of `replicates` are not ok; `values` holds the
    samples of every metric that is not a time of a round, over all replicates. `wall_s` is the
    host's mean wall time of an iteration, beside the events of a GPU.
    """

    group: Group
    case: AnyCase
    label: str
    status: str
    detail: str
    failed: int
    replicates: int
    chosen: Mapping[str, str]
    counted: Mapping[str, str]
    values: Mapping[str, tuple[float, ...]]
    times: Mapping[str, Timing]
    wall_s: float | None = None

    def value(self, metric: str) -> float | None:
        """The first sample of a metric that is measured once; None where it was not."""
        samples = self.values.get(metric, ())
        return samples[0] if samples else None

    @property
    def busy_share(self) -> float | None:
        """The share of an iteration's wall time for which a kernel ran; None where it was not
        measured.
        """
        busy_s = _mean(self.values.get("gpu_busy_s", ()))
        return busy_s / self.wall_s if busy_s is not None and self.wall_s else None

    @property
    def launch_bound(self) -> bool:
        """Whether the device waits for the host for more than a tenth of the time."""
        return self.busy_share is not None and self.busy_share < BUSY_ENOUGH

    @property
    def unstable(self) -> bool:
        """Whether a ratio is wider than the run asked for."""
        return any(timing.unstable for timing in self.times.values())

    @property
    def state(self) -> str:
        """The status with UNSTABLE in the place of `ok` where that holds."""
        return UNSTABLE if self.status == OK and self.unstable else self.status


class MeasuredRun:
    """Everything a run measured. Rounds count only when the replicate they belong to was sealed."""

    def __init__(self, run: StoredRun) -> None:
        self.run = run
        self.confidence = confidence_of(run.plan.protocol.target_ci)
        self.estimator = run.plan.protocol.estimator
        out = ran_out(run.results)
        self.groups, self.given_up = run.plan.due(out), run.plan.given_up(out)
        """The groups that were measured or are still to be, and of these those that did not fit, so
        that another was measured in their place.
        """
        self._results: dict[tuple[str, str], list[Result]] = defaultdict(list)
        sealed = set()
        for result in run.results:
            self._results[result.group, result.case].append(result)
            sealed.update((result.group, result.replicate, attempt) for attempt in result.attempts)
        self.rounds: dict[str, list[Round]] = defaultdict(list)
        for one in run.rounds:
            if (one.group, one.replicate, one.attempt) in sealed:
                self.rounds[one.group].append(one)

    @cached_property
    def cells(self) -> tuple[Measured, ...]:
        """Every planned case of every group that is due, in the order of the plan."""
        return tuple(cell for group in self.groups for cell in self._cells(group))

    @cached_property
    def noise(self) -> dict[tuple[str, str], Interval]:
        """The A/A interval by group and metric, where the group has a control that was measured."""
        found = {
            (group.name, metric): self._noise(group, metric)
            for group in self.groups
            for metric in TIMES
        }
        return {key: interval for key, interval in found.items() if interval is not None}

    def _noise(self, group: Group, metric: str) -> Interval | None:
        if group.baseline_key is None:
            return None
        return noise_floor(self.rounds[group.name], group, metric, self.confidence, self.estimator)

    def _cells(self, group: Group) -> Iterable[Measured]:
        baseline = group.baseline_key
        rounds = by_replicate(self.rounds[group.name])
        quiet = undisturbed(self.rounds[group.name], baseline)
        calm = by_replicate(quiet) if _samples(quiet) < _samples(self.rounds[group.name]) else None
        for case, label in zip(group.cases, group.rows, strict=True):
            key = case.key
            results = self._results.get((group.name, key), [])
            status, detail, failed = worst(results)
            if (
                status == OK
                and "time" in self.run.plan.metrics
                and all(result.replicate == COUNTED for result in results)
            ):
                status = PENDING  # its operations are counted, but no replicate has timed it yet
            chosen, counted = (
                {
                    name: value
                    for result in reversed(results)
                    if (result.replicate == COUNTED) == of_count
                    for name, value in _told(result)
                }
                for of_count in (False, True)
            )
            times = {metric: self._timing(group, rounds, calm, key, metric) for metric in TIMES}
            yield Measured(
                group=group,
                case=case,
                label=label,
                status=status,
                detail=detail,
                failed=failed,
                replicates=sum(result.replicate != COUNTED for result in results),
                chosen=chosen,
                counted=counted,
                values=merged(results),
                times={metric: timing for metric, timing in times.items() if timing is not None},
                wall_s=_mean(
                    [
                        one
                        for name in WALLS
                        for samples in seconds_of(rounds, key, name)
                        for one in samples
                    ]
                ),
            )

    def _timing(
        self,
        group: Group,
        rounds: Replicates,
        calm: Replicates | None,
        key: str,
        metric: str,
    ) -> Timing | None:
        samples = seconds_of(rounds, key, metric)
        if not any(samples):
            return None
        ratio = without = None
        if group.baseline_key not in (None, key):
            ratio = self._ratio(rounds, group, key, metric)
            without = self._ratio(calm, group, key, metric) if calm is not None else None
        return Timing(
            absolute=absolute(samples, self.confidence),
            ratio=ratio,
            quiet=without,
            verdict=verdict(ratio, self.noise.get((group.name, metric)))
            if ratio is not None
            else "",
            unstable=ratio is not None
            and group.name not in self.given_up
            and unstable(ratio, self.run.plan.protocol.target_ci),
        )

    def _ratio(self, rounds: Replicates, group: Group, key: str, metric: str) -> Interval | None:
        found = ratio_pairs(rounds, group.baselines, key, metric, self.estimator)
        return log_ratio(found, self.confidence, self.estimator) if any(found) else None


def worst(results: Iterable[Result]) -> tuple[str, str, int]:
    """(status, detail, number of failed replicates) of one cell: `ok` only if every replicate is;
    `not finished` if there is none.
    """
    found = list(results)
    failures = [result for result in found if result.status != OK]
    if not found:
        return PENDING, "", 0
    if not failures:
        return OK, "", 0
    order = {status: place for place, status in enumerate(STATUSES)}
    chief = max(failures, key=lambda result: order.get(result.status, len(order)))
    return chief.status, chief.detail, len(failures)


def merged(results: Iterable[Result]) -> dict[str, tuple[float, ...]]:
    """Samples by metric over all replicates, without the times that the rounds hold."""
    found: dict[str, tuple[float, ...]] = {}
    for result in results:
        for measurement in result.measurements:
            if measurement.metric not in TIMES:
                found[measurement.metric] = found.get(measurement.metric, ()) + tuple(
                    measurement.samples
                )
    return found


def _told(result: Result) -> Iterable[tuple[str, str]]:
    """What was decided at run time; that a case was to be paired, which the engine remembers of
    every one, only where that came to a measurement.
    """
    return [
        (name, value)
        for name, value in result.chosen.items()
        if name != PAIRED or result.status == OK
    ]


def _samples(rounds: Iterable[Round]) -> int:
    return sum(len(one.samples) for one in rounds)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def is_control(cell: Measured) -> bool:
    """Whether the cell is the baseline's twin, which shows the noise floor and is no row of a
    table.
    """
    return cell.case.role == CONTROL
