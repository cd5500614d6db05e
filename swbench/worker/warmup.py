"""The warm-up rule: enough calls and seconds, and two windows of calls that agree."""

from statistics import median

WINDOW = 3
"""Calls in each of the two windows; a heuristic: the median of three ignores an outlier."""

AGREEMENT = 0.01
"""Windows agree when their medians differ by less than this share (docs/measuring.md)."""

SCATTER = 0.95
"""Windows also agree when their medians differ by less than this many standard deviations of a
call: the standard deviation of the difference of two medians of three normal values. Without this
rule calls that scatter by 10 % never agree within 1 %, and each case is warmed up until the cap.
"""


class WarmUp:
    """At least `calls` calls and `seconds`, then until the medians of the last two windows agree
    within 1 % or within what the calls scatter by, or `cap_s` have passed.
    """

    def __init__(self, calls: int, seconds: float, cap_s: float) -> None:
        self._calls, self._seconds, self._cap_s = calls, seconds, max(cap_s, seconds)
        self._taken: list[float] = []
        self._spent_s = 0.0

    def add(self, sample_s: float, spent_s: float) -> None:
        """Add a call that took `sample_s` by its own clock and `spent_s` in all."""
        self._taken.append(sample_s)
        self._spent_s += spent_s

    @property
    def calls(self) -> int:
        """Calls so far."""
        return len(self._taken)

    @property
    def done(self) -> bool:
        """Whether the case is warm, or the cap is reached."""
        if self.calls < self._calls or self._spent_s < self._seconds:
            return False
        if self._spent_s >= self._cap_s:
            return True
        if self.calls < 2 * WINDOW:
            return False
        windows = self._taken[-2 * WINDOW : -WINDOW], self._taken[-WINDOW:]
        before, after = map(median, windows)
        # the standard deviation of normal values by the median absolute deviation, which resists
        # outliers
        deviation = 1.4826 * median(
            abs(sample - middle)
            for window, middle in zip(windows, (before, after), strict=True)
            for sample in window
        )
        return abs(after - before) < max(AGREEMENT * before, SCATTER * deviation)
