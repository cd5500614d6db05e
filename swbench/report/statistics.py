"""The statistics of a run, in one place to import from: intervals, verdicts and the stopping rule
(docs/measuring.md has the formulas).
"""

from swbench.report.intervals import Absolute, Interval, Pair, absolute, log_ratio
from swbench.report.samples import noise_floor, pairs, seconds, undisturbed
from swbench.report.stopping import Decision, Stopping, confidence_of
from swbench.report.verdict import (
    FASTER,
    NO_DIFFERENCE,
    SLOWER,
    TOO_FEW,
    UNSTABLE,
    unstable,
    verdict,
)

__all__ = [
    "FASTER",
    "NO_DIFFERENCE",
    "SLOWER",
    "TOO_FEW",
    "UNSTABLE",
    "Absolute",
    "Decision",
    "Interval",
    "Pair",
    "Stopping",
    "absolute",
    "confidence_of",
    "log_ratio",
    "noise_floor",
    "pairs",
    "seconds",
    "undisturbed",
    "unstable",
    "verdict",
]
