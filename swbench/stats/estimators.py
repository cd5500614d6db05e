"""Estimators of a log-ratio from the rounds of one process, by the name that a run's protocol
stores.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from swbench.plan import FASTER_HALF, MEDIAN

Pair = tuple[float, ...]
"""(baseline seconds, variant seconds) of one round; with the control's seconds as third where it is
pooled with the baseline. All pairs of a process have the same length.
"""

_FASTER_SHARE = 0.5
"""Share of the calls that `faster_half` uses. Of shares from 0.35 to 0.8, a half scatters least on
the committed runs (docs/variance.md).
"""


def median(pairs: Sequence[Pair]) -> float:
    """The median over rounds of log(variant / baseline), each ratio taken within a round."""
    return statistics.median([math.log(variant / baseline) for baseline, variant, *_ in pairs])


def faster_half(pairs: Sequence[Pair]) -> float:
    """The mean log of the faster half of the variant's calls, less that of the baseline's; with a
    control, less the mean of baseline and control.

    Disturbances make calls longer, so they affect the faster half least. Each network has a half of
    its own with the same number of calls, so that equal networks differ by chance alone.
    """
    baseline, variant, *control = zip(*pairs, strict=True)
    return _mean_log_of_faster_half(variant) - statistics.fmean(
        map(_mean_log_of_faster_half, (baseline, *control))
    )


def _mean_log_of_faster_half(times: Sequence[float]) -> float:
    logs = sorted(map(math.log, times))
    return statistics.fmean(logs[: math.ceil(_FASTER_SHARE * len(logs))])


ESTIMATORS: Mapping[str, Callable[[Sequence[Pair]], float]] = {
    MEDIAN: median,
    FASTER_HALF: faster_half,
}
SCATTER: Mapping[str, float] = {MEDIAN: 1.2533, FASTER_HALF: 0.8}
"""Standard error of an estimate from n rounds in units of s/√n, where s is the standard deviation
of the within-round log-ratio: that of a median of normal values, and for `faster_half` the scatter
between processes in committed runs (docs/variance.md).
"""

POOLED = frozenset({FASTER_HALF})
"""Estimators that use the control as a second baseline for every other case."""


def replicate_value(pairs: Sequence[Pair], estimator: str = MEDIAN) -> float:
    """log(variant / baseline) from the rounds of one process. Raises ValueError for times that are
    not positive.
    """
    try:
        return ESTIMATORS[estimator](pairs)
    except (ValueError, ZeroDivisionError):
        raise ValueError(
            "a log-ratio needs at least one round, and times greater than zero in each"
        ) from None
