"""Comparison of two runs: Welch's test of the difference of their replicates, Holm's correction
over many such tests, and the verdicts of a regression gate.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from swbench.stats.intervals import Interval, t_quantile
from swbench.stats.verdict import FASTER, SLOWER

SAME, UNCLEAR = "same", "unclear"


@dataclass(frozen=True)
class Difference:
    """Run B less run A on the log scale, from one value a replicate of each.

    Welch, B. L. (1947), "The generalization of Student's problem when several different population
    variances are involved". A run of a single replicate gives a difference, no interval and no
    p-value.
    """

    a: Sequence[float]
    b: Sequence[float]

    @cached_property
    def mean(self) -> float:
        """Mean of b less mean of a."""
        return statistics.fmean(self.b) - statistics.fmean(self.a)

    @property
    def replicates(self) -> int:
        """The number of replicates of the run that has fewer."""
        return min(len(self.a), len(self.b))

    @cached_property
    def _errors(self) -> tuple[float, float]:
        """The squared standard errors of both means."""
        return tuple(statistics.variance(values) / len(values) for values in (self.a, self.b))

    @property
    def error(self) -> float:
        """The standard error of the difference."""
        return math.sqrt(sum(self._errors))

    @property
    def degrees(self) -> float:
        """Welch's degrees of freedom; `error` is not 0."""
        return sum(self._errors) ** 2 / sum(
            error**2 / (len(values) - 1)
            for error, values in zip(self._errors, (self.a, self.b), strict=True)
        )

    def interval(self, confidence: float) -> Interval:
        """The ratio B / A with its interval; none where a run has a single replicate."""
        if self.replicates < 2:
            return Interval(math.exp(self.mean), None, None, confidence, self.replicates)
        half = t_quantile(confidence, self.degrees) * self.error if self.error else 0.0
        return Interval(
            math.exp(self.mean),
            math.exp(self.mean - half),
            math.exp(self.mean + half),
            confidence,
            self.replicates,
        )

    @property
    def p_value(self) -> float | None:
        """The probability that two equal runs differ by as much or more, up or down; None where one
        of them has a single replicate or a value that is not finite.
        """
        if self.replicates < 2 or not all(map(math.isfinite, (*self.a, *self.b))):
            return None
        if not self.error:
            return 0.0 if self.mean else 1.0
        # scipy.stats would cost a second at start-up
        from scipy.special import stdtr

        return 2.0 * float(stdtr(self.degrees, -abs(self.mean) / self.error))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number. If everything below α is called different, the
    probability of one or more errors is at most α, however the tests depend on each other.

    Holm, S. (1979), "A simple sequentially rejective multiple test procedure".
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, running_max = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running_max = max(running_max, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = running_max
    return adjusted


def gate_verdict(interval: Interval, verdict: str, adjusted: float | None, threshold: float) -> str:
    """`same`, `slower`, `faster` or `unclear`, with a `threshold` of 0.05 for 5 %.

    `same`: the interval lies between 1 / (1 + threshold) and 1 + threshold, ends included. `slower`
    and `faster`: the row's own `verdict` (`stats.verdict`) says so, the estimate lies beyond the
    threshold, and the p-value `adjusted` by `holm` is below 1 - confidence. Everything else is
    `unclear`, also a row without an interval or with a bound that is not a number.
    """
    if not interval.known or adjusted is None:
        return UNCLEAR
    most = 1.0 + threshold
    if interval.low >= 1.0 / most and interval.high <= most:
        return SAME
    beyond = {SLOWER: interval.estimate > most, FASTER: interval.estimate < 1.0 / most}
    if beyond.get(verdict, False) and adjusted < 1.0 - interval.confidence:
        return verdict
    return UNCLEAR
