"""Confidence intervals whose unit of replication is the process: a ratio to the baseline, and an
absolute time.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from swbench.stats.estimators import MEDIAN, Pair, replicate_value


@lru_cache(maxsize=512)
def t_quantile(confidence: float, degrees: int) -> float:
    """The two-sided Student t factor: P(|T| <= factor) = `confidence` for `degrees` >= 1 degrees of
    freedom.
    """
    # Imported here, because `list` does not need it; scipy.stats would take a second to load.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + confidence / 2))


@dataclass(frozen=True)
class Interval:
    """A ratio (variant / baseline) with its confidence interval. `low` and `high` are None if there
    is only one replicate.
    """

    estimate: float
    low: float | None
    high: float | None
    confidence: float
    replicates: int

    @property
    def known(self) -> bool:
        """Whether there is an interval at all: at least two replicates."""
        return self.low is not None and self.high is not None

    @property
    def half_width(self) -> float:
        """Half the length of the interval of the log-ratio (0.01 reads as ±1 %); infinite where
        there is no interval.
        """
        return 0.5 * math.log(self.high / self.low) if self.known else math.inf

    @property
    def effect(self) -> float:
        """The log-ratio: 0 where variant and baseline take the same time, 0.05 for about 5 %
        slower.
        """
        return math.log(self.estimate)

    def holds(self, ratio: float) -> bool:
        """Whether `ratio` lies inside; True where there is no interval, which rules nothing out."""
        return not self.known or self.low <= ratio <= self.high


@dataclass(frozen=True)
class Absolute:
    """Seconds of one cell. `mean`, `median` and `std` are over all iterations; `low` and `high`
    bound the mean and come from the replicates.
    """

    mean: float
    median: float
    std: float
    low: float | None
    high: float | None
    confidence: float
    replicates: int
    iterations: int
    median_half_width: float | None = None
    """Half the length of the interval of the log-median, from the replicates' medians."""

    @property
    def skewed(self) -> bool:
        """Whether mean and median differ by more than the interval of the median explains: a few
        samples moved the mean.
        """
        if self.median_half_width is None or not (self.mean > 0 and self.median > 0):
            return False
        rounding = 1e-12
        return abs(math.log(self.mean / self.median)) > self.median_half_width + rounding


def mean_interval(values: Sequence[float], confidence: float) -> tuple[float, float | None]:
    """Mean of `values` and the half-width of its t-interval, t(confidence, K-1)·s/√K; None for a
    single value.
    """
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, None
    return mean, t_quantile(confidence, len(values) - 1) * deviation(values, mean) / math.sqrt(
        len(values)
    )


def deviation(values: Sequence[float], mean: float) -> float:
    """The sample standard deviation of at least two values about their mean. `statistics.stdev`
    computes in fractions, 50 times slower.
    """
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def log_ratio(
    replicates: Sequence[Sequence[Pair]], confidence: float = 0.95, estimator: str = MEDIAN
) -> Interval:
    """The ratio variant / baseline. Each replicate gives one log-ratio by `estimator`. The result
    is exp of their mean, with a t-interval over replicates.

    `replicates[k]` holds the times of each round of process k; replicates without a round do not
    count. Raises ValueError where no replicate has a round.
    """
    values = [replicate_value(pairs, estimator) for pairs in replicates if pairs]
    if not values:
        raise ValueError("no replicate holds a round: there is nothing to take a ratio of")
    mean, half = mean_interval(values, confidence)
    if half is None:
        return Interval(math.exp(mean), None, None, confidence, len(values))
    return Interval(
        math.exp(mean), math.exp(mean - half), math.exp(mean + half), confidence, len(values)
    )


def absolute(replicates: Sequence[Sequence[float]], confidence: float = 0.95) -> Absolute:
    """Absolute seconds: mean over all iterations (the paper's statistic) with median, sample
    deviation and a t-interval over replicate means.

    The interval is computed from the logarithms of the K replicate means (s is their deviation) and
    centred on the mean over all iterations: mean · exp(±t·s/√K). Seconds are positive, and so are
    both its ends; where replicates differ little it is the plain t-interval. There is none where a
    replicate's mean is 0. Raises ValueError where there is no sample.
    """
    nonempty = [list(samples) for samples in replicates if samples]
    all_samples = [sample for samples in nonempty for sample in samples]
    if not all_samples:
        raise ValueError("no sample in any replicate: there is nothing to average")
    mean = statistics.fmean(all_samples)
    means = [statistics.fmean(samples) for samples in nonempty]
    medians = list(map(statistics.median, nonempty))
    half, median_half = (
        mean_interval(list(map(math.log, values)), confidence)[1] if min(values) > 0 else None
        for values in (means, medians)
    )
    return Absolute(
        mean=mean,
        median=statistics.median(all_samples),
        std=deviation(all_samples, mean) if len(all_samples) > 1 else 0.0,
        low=None if half is None else mean * math.exp(-half),
        high=None if half is None else mean * math.exp(half),
        confidence=confidence,
        replicates=len(nonempty),
        iterations=len(all_samples),
        median_half_width=median_half,
    )
