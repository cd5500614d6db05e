"""What one self-test found: passed, failed, inconclusive (too noisy to tell, which is no failure)
or skipped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

PASSED, FAILED, INCONCLUSIVE, SKIPPED = "passed", "failed", "inconclusive", "skipped"


@dataclass(frozen=True)
class Outcome:
    """One check: what was found, and what was asked of it, each as words with their figures;
    `remedy` is what to do where it is inconclusive.
    """

    name: str
    verdict: str
    found: str
    asked: str
    remedy: str = ""


def overall(outcomes: Sequence[Outcome]) -> str:
    """Failed if any check failed, else inconclusive if any was, else passed. Skipped checks decide
    nothing.
    """
    verdicts = {outcome.verdict for outcome in outcomes}
    return next((verdict for verdict in (FAILED, INCONCLUSIVE) if verdict in verdicts), PASSED)
