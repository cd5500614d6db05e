"""The rules by which two cells are called different, and a row unstable."""

from swbench.stats.intervals import Interval

SLOWER, FASTER, NO_DIFFERENCE, TOO_FEW = (
    "slower",
    "faster",
    "no difference seen",
    "too few replicates",
)
NOT_RESOLVED = "not resolved"
UNSTABLE = "UNSTABLE"


def verdict(interval: Interval, noise_floor: Interval | None) -> str:
    """`slower` or `faster` only if the interval excludes a ratio of 1 and the effect exceeds the
    half-width of the A/A interval.

    `noise_floor` is the control's interval, the baseline against its identical twin; None in a run
    without a control, where the first condition alone decides. `too few replicates` where either of
    them has no interval, else `no difference seen`: that is no proof of equality, and the interval
    beside it says how large a difference could have been missed.
    """
    if not interval.known or (noise_floor is not None and not noise_floor.known):
        return TOO_FEW
    floor = 0.0 if noise_floor is None else noise_floor.half_width
    if interval.holds(1.0) or abs(interval.effect) <= floor:
        return NO_DIFFERENCE
    return SLOWER if interval.effect > 0 else FASTER


def resolved(verdict: str, low: float, high: float, expected: float) -> str:
    """The `verdict` of an interval where a ratio of `expected` was published: `not resolved` in
    place of `no difference seen` where the interval holds both 1 and the published ratio, so that
    the run can tell neither from the other.
    """
    holds_both = low <= min(1.0, expected) and max(1.0, expected) <= high
    return NOT_RESOLVED if verdict == NO_DIFFERENCE and holds_both else verdict


def unstable(interval: Interval, target_ci: float | None) -> bool:
    """Whether the run has a target half-width `target_ci` (log scale) and this row's interval is
    wider: after all replicates, a spent budget, or while the run is not finished.
    """
    return target_ci is not None and interval.half_width > target_ci
