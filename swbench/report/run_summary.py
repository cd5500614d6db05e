"""Summary of a run, cell by cell: statuses, seconds, ratios to the baseline, and values that are
measured once a case.
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
"""Status of a planned cell that no replicate has sealed yet."""


BUSY_ENOUGH = 0.9
"""Share of kernels in the wall time below which a GPU waits for its host: launch-bound
(docs/measuring-gpu.md).
"""


@dataclass(frozen=True)
class Timing:
    """One timing metric of one cell. `ratio` is the ratio to the group's baseline, `undisturbed`
    the same without disturbed rounds and blocks (None where none was marked).
    """

    absolute: Absolute
    ratio: Interval | None
    undisturbed: Interval | None
    verdict: str
    unstable: bool


@dataclass(frozen=True)
class MeasuredCell:
    """One case of one group.

    `chosen` holds the decisions at run time, `counted` the notes on counted operations. `status` is
    the worst of its replicates, of which `failed` of `replicates` are not ok. `values` holds the
    samples of every metric that is not a time of a round, over all replicates. `wall_s` is the
    host's mean wall time of an iteration, which is measured beside a GPU's events.
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
        """The share of an iteration's wall time in which a kernel ran; None where it was not
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
        """Whether a ratio's interval is wider than the run's target."""
        return any(timing.unstable for timing in self.times.values())

    @property
    def state(self) -> str:
        """The status; `UNSTABLE` in place of `ok` for an unstable cell."""
        return UNSTABLE if self.status == OK and self.unstable else self.status


class RunSummary:
    """The summary of a stored run. Rounds count only if their replicate was sealed."""

    def __init__(self, run: StoredRun) -> None:
        self.run = run
        self.confidence = confidence_of(run.plan.protocol.target_ci)
        self.estimator = run.plan.protocol.estimator
        out_of_memory = ran_out(run.results)
        self.groups, self.given_up = run.plan.due(out_of_memory), run.plan.given_up(out_of_memory)
        """The groups that were measured or are still to be, and those of them that did not fit the
        memory, so that another batch was measured in their place.
        """
        self._results: dict[tuple[str, str], list[Result]] = defaultdict(list)
        sealed = set()
        for result in run.results:
            self._results[result.group, result.case].append(result)
            sealed.update((result.group, result.replicate, attempt) for attempt in result.attempts)
        self.rounds: dict[str, list[Round]] = defaultdict(list)
        for round_ in run.rounds:
            if (round_.group, round_.replicate, round_.attempt) in sealed:
                self.rounds[round_.group].append(round_)

    @cached_property
    def cells(self) -> tuple[MeasuredCell, ...]:
        """Every planned case of every group that is due, in the order of the plan."""
        return tuple(cell for group in self.groups for cell in self._cells(group))

    @cached_property
    def noise(self) -> dict[tuple[str, str], Interval]:
        """The A/A interval by group and metric, where the group has a control that was measured."""
        intervals = {
            (group.name, metric): self._noise(group, metric)
            for group in self.groups
            for metric in TIMES
        }
        return {key: interval for key, interval in intervals.items() if interval is not None}

    def _noise(self, group: Group, metric: str) -> Interval | None:
        if group.baseline_key is None:
            return None
        return noise_floor(self.rounds[group.name], group, metric, self.confidence, self.estimator)

    def _cells(self, group: Group) -> Iterable[MeasuredCell]:
        baseline = group.baseline_key
        rounds = by_replicate(self.rounds[group.name])
        undisturbed_rounds = undisturbed(self.rounds[group.name], baseline)
        undisturbed_by_replicate = (
            by_replicate(undisturbed_rounds)
            if _sample_count(undisturbed_rounds) < _sample_count(self.rounds[group.name])
            else None
        )
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
                    if (result.replicate == COUNTED) == from_counting
                    for name, value in _decisions(result)
                }
                for from_counting in (False, True)
            )
            times = {
                metric: self._timing(group, rounds, undisturbed_by_replicate, key, metric)
                for metric in TIMES
            }
            yield MeasuredCell(
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
                        wall_s
                        for name in WALLS
                        for samples in seconds_of(rounds, key, name)
                        for wall_s in samples
                    ]
                ),
            )

    def _timing(
        self,
        group: Group,
        rounds: Replicates,
        undisturbed_by_replicate: Replicates | None,
        key: str,
        metric: str,
    ) -> Timing | None:
        samples = seconds_of(rounds, key, metric)
        if not any(samples):
            return None
        ratio = undisturbed_ratio = None
        if group.baseline_key not in (None, key):
            ratio = self._ratio(rounds, group, key, metric)
            undisturbed_ratio = (
                self._ratio(undisturbed_by_replicate, group, key, metric)
                if undisturbed_by_replicate is not None
                else None
            )
        return Timing(
            absolute=absolute(samples, self.confidence),
            ratio=ratio,
            undisturbed=undisturbed_ratio,
            verdict=verdict(ratio, self.noise.get((group.name, metric)))
            if ratio is not None
            else "",
            unstable=ratio is not None
            and group.name not in self.given_up
            and unstable(ratio, self.run.plan.protocol.target_ci),
        )

    def _ratio(self, rounds: Replicates, group: Group, key: str, metric: str) -> Interval | None:
        pairs = ratio_pairs(rounds, group.baselines, key, metric, self.estimator)
        return log_ratio(pairs, self.confidence, self.estimator) if any(pairs) else None


def worst(results: Iterable[Result]) -> tuple[str, str, int]:
    """(status, detail, number of failed replicates) of one cell: `ok` only if every replicate is;
    `not finished` if there is none.
    """
    result_list = list(results)
    failures = [result for result in result_list if result.status != OK]
    if not result_list:
        return PENDING, "", 0
    if not failures:
        return OK, "", 0
    order = {status: rank for rank, status in enumerate(STATUSES)}
    gravest = max(failures, key=lambda result: order.get(result.status, len(order)))
    return gravest.status, gravest.detail, len(failures)


def merged(results: Iterable[Result]) -> dict[str, tuple[float, ...]]:
    """Samples by metric over all replicates, without the times that the rounds hold."""
    samples: dict[str, tuple[float, ...]] = {}
    for result in results:
        for measurement in result.measurements:
            if measurement.metric not in TIMES:
                samples[measurement.metric] = samples.get(measurement.metric, ()) + tuple(
                    measurement.samples
                )
    return samples


def _decisions(result: Result) -> Iterable[tuple[str, str]]:
    """The decisions at run time. `PAIRED`, which the engine stores with every paired case, counts
    only if the case was measured.
    """
    return [
        (name, value)
        for name, value in result.chosen.items()
        if name != PAIRED or result.status == OK
    ]


def _sample_count(rounds: Iterable[Round]) -> int:
    return sum(len(round_.samples) for round_ in rounds)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def is_control(cell: MeasuredCell) -> bool:
    """Whether the cell is the control, which shows the noise floor and has no row in a table."""
    return cell.case.role == CONTROL
