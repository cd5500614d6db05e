"""Optional stopping by precision: interim looks after 4, 8, 16 and 32 replicates, with the error
probability split between them.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field

from swbench.formatting import precision
from swbench.stats.estimators import MEDIAN, Pair
from swbench.stats.intervals import Interval, log_ratio

LOOKS = (4, 8, 16, 32)
ALPHA = 0.05


@dataclass(frozen=True)
class Decision:
    """Whether to stop, why, and for each row the interval and whether it reached the target."""

    stop: bool
    reason: str
    reached: Mapping[Hashable, bool] = field(default_factory=dict)
    intervals: Mapping[Hashable, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class Stopping:
    """Stop when every row's interval has a half-width of at most `target_ci` on the log-ratio.

    Stopping when an interval looks narrow favours those that are narrow by luck, so each of the L
    looks uses confidence 1 - alpha/L: whatever rule picks the look, the interval printed covers the
    truth with at least 1 - alpha (Bonferroni). A budget that ends a run between two looks counts as
    the next look taken early.
    """

    target_ci: float
    looks: tuple[int, ...] = LOOKS
    alpha: float = ALPHA

    def __post_init__(self) -> None:
        if (
            not self.target_ci > 0
            or not self.looks
            or list(self.looks) != sorted(set(self.looks))
            or self.looks[0] < 2
        ):
            raise ValueError(
                "stopping needs a target above 0 and rising looks of at least 2 "
                f"replicates, not {self.target_ci} and {self.looks}"
            )

    @property
    def confidence(self) -> float:
        """The confidence of the interval at every look, and so of the one that is printed."""
        return 1.0 - self.alpha / len(self.looks)

    @property
    def most(self) -> int:
        """The number of replicates after which a run ends in any case."""
        return self.looks[-1]

    def due(self, replicates: int) -> bool:
        """Whether a run may stop for its precision after this many replicates."""
        return replicates in self.looks

    def decide(
        self,
        replicates_by_row: Mapping[Hashable, Sequence[Sequence[Pair]]],
        estimator: str = MEDIAN,
    ) -> Decision:
        """Whether to stop now, from each row's replicates of pairs, by the run's `estimator`.

        Rows have any hashable key, a case and a metric for instance. A row without any round has
        failed and is left out.
        """
        rows = {row: replicates for row, replicates in replicates_by_row.items() if any(replicates)}
        intervals = {
            row: log_ratio(replicates, self.confidence, estimator)
            for row, replicates in rows.items()
        }
        reached = {
            row: interval.half_width <= self.target_ci for row, interval in intervals.items()
        }
        # a replicate that failed for one row counts for the others
        done = max(map(len, rows.values()), default=0)
        if not intervals:
            return Decision(True, "no row has a round to judge")
        widest = max(interval.half_width for interval in intervals.values())
        width_text = (
            f"the widest interval is {precision(widest)}"
            if math.isfinite(widest)
            else "one replicate gives no interval"
        )
        progress = f"after {done} replicates {width_text}, the target {precision(self.target_ci)}"
        if self.due(done) and all(reached.values()):
            return Decision(True, f"target reached: {progress}", reached, intervals)
        if done >= self.most:
            return Decision(True, f"most replicates done: {progress}", reached, intervals)
        return Decision(False, f"going on: {progress}", reached, intervals)


def confidence_of(target_ci: float | None) -> float:
    """The confidence that a run's printed intervals have: 95 %, or a look's share of it where the
    run stopped by precision.
    """
    return 1.0 - ALPHA if target_ci is None else Stopping(target_ci).confidence
