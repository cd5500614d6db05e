"""Estimators of a log-ratio: what the rounds of one process have to say, by the name that a run's
protocol stores.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from swbench.plan import FASTER_HALF, MEDIAN

Pair = tuple[float, ...]
"""(baseline seconds, variant seconds) of one round, and third the control's where it is pooled with
the baseline; all of a process are alike.
"""

_FASTER = 0.5
"""Of shares from 0.35 to 0.8 a half scatters least on the committed runs (docs/variance.md)."""


def median(pairs: Sequence[Pair]) -> float:
    """The median over rounds of log(variant / baseline), each ratio taken within a round."""
    return statistics.median([math.log(variant / baseline) for baseline, variant, *_ in pairs])


def faster_half(pairs: Sequence[Pair]) -> float:
    """The mean log of the faster half of the variant's calls, less that of the baseline's; where
    there is a control, less the mean of both.

    What disturbs a call makes it longer, and disturbs the faster half least. Each network's half is
    its own, of the same number of calls, so that networks that are alike differ by chance alone.
    """
    baseline, variant, *control = zip(*pairs, strict=True)
    return _faster(variant) - statistics.fmean(map(_faster, (baseline, *control)))


def _faster(times: Sequence[float]) -> float:
    logs = sorted(map(math.log, times))
    return statistics.fmean(logs[: math.ceil(_FASTER * len(logs))])


ESTIMATORS: Mapping[str, Callable[[Sequence[Pair]], float]] = {
    MEDIAN: median,
    FASTER_HALF: faster_half,
}
SCATTER: Mapping[str, float] = {MEDIAN: 1.2533, FASTER_HALF: 0.8}
"""The standard error of an estimate from n rounds is so many times s/√n, with s the standard
deviation of the within-round log-ratio: that of a median of normal values, and what processes
differ by in committed runs (docs/variance.md).
"""

POOLED = frozenset({FASTER_HALF})
"""The estimators that take the control for a second baseline of every other case."""


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
