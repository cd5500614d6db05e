"""The result of comparing two runs: a row for each cell and pass, and the gate's verdicts."""

from __future__ import annotations

from dataclasses import dataclass

from swbench.stats.intervals import Interval
from swbench.stats.two_runs import UNCLEAR
from swbench.stats.verdict import SLOWER

NOT_COMPARABLE, FAILED, NOT_GATED = "not comparable", "failed", "not gated"
RELATIVE, SECONDS = "ratio", "seconds"
"""The compared quantity: each run's ratio to its own baseline, in which the speed of the machine
cancels, or seconds.
"""


@dataclass(frozen=True)
class Compared:
    """One timing metric of one cell in both runs. `a` and `b` are the values in runs A and B
    (ratios or seconds); `ratio` is B / A.

    `reason` says why a cell is not comparable, or how many replicates failed and are not in its
    figures. `gated` cells count for a regression; the baseline's seconds do not, unless seconds are
    compared. `lost` cells were timed in A and failed in B; `missing` cells were timed in A and
    cannot be compared for another reason.
    """

    label: str
    group: str
    case: str
    metric: str
    basis: str
    a: float | None
    b: float | None
    ratio: Interval | None
    verdict: str
    reason: str = ""
    gated: bool = True
    lost: bool = False
    missing: bool = False
    p: float | None = None
    adjusted: float | None = None
    gate: str = ""


@dataclass(frozen=True)
class Comparison:
    """All cells of two runs. `differences` are those of their environments, `threshold` is the
    relative growth (0.05 for 5 %) that counts as a regression.
    """

    a: str
    b: str
    rows: tuple[Compared, ...]
    differences: tuple[str, ...]
    threshold: float
    confidence: float
    basis: str
    warnings: tuple[str, ...] = ()

    @property
    def lost(self) -> tuple[Compared, ...]:
        """Cells that run A timed and that ran out of memory, crashed or timed out in run B."""
        return tuple(row for row in self.rows if row.lost)

    @property
    def partly_failed(self) -> tuple[Compared, ...]:
        """Cells that are compared although they failed in some replicates of either run."""
        return tuple(row for row in self.rows if row.reason and row.verdict != NOT_COMPARABLE)

    @property
    def regressions(self) -> tuple[Compared, ...]:
        """Cells that the gate calls slower: beyond noise, chance among all rows, and the
        threshold.
        """
        return self.rows_with_gate(SLOWER)

    @property
    def missing(self) -> tuple[Compared, ...]:
        """Cells that run A timed, that did not fail in run B, and that cannot be compared."""
        return tuple(row for row in self.rows if row.missing)

    @property
    def undecided(self) -> tuple[Compared, ...]:
        """Cells that these runs call neither the same nor different: unclear, or missing."""
        return self.rows_with_gate(UNCLEAR) + self.missing

    @property
    def gated_count(self) -> int:
        """The number of cells that the gate judges together."""
        return sum(row.gated for row in self.rows)

    def rows_with_gate(self, word: str) -> tuple[Compared, ...]:
        """The cells with the gate's verdict `word`."""
        return tuple(row for row in self.rows if row.gate == word)
