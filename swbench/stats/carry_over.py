"""What a case costs the one that runs after it, estimated from the random orders of the rounds."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from swbench.result import Round
from swbench.stats.intervals import deviation

if TYPE_CHECKING:
    import numpy as np

LEAST_CASES, LEAST_ROUNDS = 3, 6
"""With two cases each always follows the other, which tells nothing of either; with fewer rounds
the orders say too little.
"""

_CLIP, _STEPS = 2.0, 12
"""Residuals beyond so many standard deviations pull no harder (Huber 1964), in so many steps;
heuristics.
"""


@dataclass(frozen=True)
class CarryOver:
    """How much longer (log scale) a case takes after `case` than after the baseline: the mean over
    processes, one value each, and how often chance alone makes it as large.
    """

    case: str
    metric: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over processes."""
        return statistics.fmean(self.values)

    @property
    def error(self) -> float:
        """The standard error of the mean, over processes."""
        return deviation(self.values, self.mean) / math.sqrt(len(self.values))

    @property
    def p_value(self) -> float:
        """Of a two-sided t-test of the mean against 0."""
        # scipy.stats would cost a second at start-up
        from scipy.special import stdtr

        if not self.error:
            return 0.0 if self.mean else 1.0
        return 2.0 * float(stdtr(len(self.values) - 1, -abs(self.mean) / self.error))


def carry_overs(
    workers: Sequence[Sequence[Round]], baseline: str, metric: str
) -> tuple[CarryOver, ...]:
    """What each case but the baseline costs its successor, from the rounds of one group, a list a
    worker process; `baseline` is a case key.

    In each process the log of a time is taken to be a sum: of the round, the case, the position in
    the round, and the case before it. Cases that fewer than two processes tell of are left out.
    """
    found: dict[str, list[float]] = {}
    for rounds in workers:
        for case, value in _of_worker(rounds, baseline, metric).items():
            found.setdefault(case, []).append(value)
    return tuple(
        CarryOver(case, metric, tuple(values)) for case, values in found.items() if len(values) > 1
    )


def corrected(rounds: Sequence[Round], metric: str, costs: Mapping[str, float]) -> list[Round]:
    """The rounds as they would be if no case cost its successor anything: `costs` by case key, on
    the log scale.
    """
    found = []
    for one in rounds:
        before = dict(zip(one.order[1:], one.order, strict=False))
        samples = {
            key: {**times, metric: times[metric] * math.exp(-costs[before[key]])}
            if metric in times and before.get(key) in costs
            else times
            for key, times in one.samples.items()
        }
        found.append(replace(one, samples=samples))
    return found


def _of_worker(rounds: Sequence[Round], baseline: str, metric: str) -> dict[str, float]:
    import numpy as np

    whole = [
        one
        for one in rounds
        if all(one.samples.get(key, {}).get(metric, 0.0) > 0 for key in one.order)
    ]
    kinds = Counter(frozenset(one.order) for one in whole)
    cases = max(kinds, key=lambda kind: kinds[kind], default=frozenset())
    whole = [one for one in whole if frozenset(one.order) == cases]
    if baseline not in cases or len(cases) < LEAST_CASES or len(whole) < LEAST_ROUNDS:
        return {}
    names = sorted(cases)
    place = {case: position for position, case in enumerate(names)}
    orders = np.array([[place[case] for case in one.order] for one in whole])
    logs = np.log([[one.samples[case][metric] for case in one.order] for one in whole])
    design = _design(orders, len(names))
    solve = np.linalg.pinv(design.T @ design, rcond=1e-10, hermitian=True) @ design.T
    wanted = {
        case: _contrast(place[case], place[baseline], len(names), design.shape[1])
        for case in names
        if case != baseline
    }
    # a contrast that the orders drawn do not show at all would come out as something else
    shown = solve @ design
    fitted = _robust(logs, design, solve)
    return {
        case: float(contrast @ fitted)
        for case, contrast in wanted.items()
        if np.allclose(contrast @ shown, contrast, atol=1e-6)
    }


def _design(orders: np.ndarray, cases: int) -> np.ndarray:
    """A row a sample, with a column a case, a position and a predecessor, less the mean of its
    round.
    """
    import numpy as np

    rounds, size = orders.shape
    design = np.zeros((rounds, size, 3 * cases))
    at = np.arange(rounds)[:, None], np.arange(size)[None, :]
    design[(*at, orders)] = 1.0
    design[(*at, cases + np.arange(size)[None, :])] = 1.0
    design[at[0], at[1][:, 1:], 2 * cases + orders[:, :-1]] = 1.0
    design -= design.mean(axis=1, keepdims=True)
    return design.reshape(rounds * size, 3 * cases)


def _contrast(case: int, baseline: int, cases: int, columns: int) -> np.ndarray:
    import numpy as np

    contrast = np.zeros(columns)
    contrast[2 * cases + case], contrast[2 * cases + baseline] = 1.0, -1.0
    return contrast


def _robust(logs: np.ndarray, design: np.ndarray, solve: np.ndarray) -> np.ndarray:
    """Huber's estimate of the columns' coefficients, with a free level for each round, by pulling
    in what lies far from the fit and fitting again.
    """
    import numpy as np

    pulled = logs
    for _ in range(_STEPS):
        level = pulled.mean(axis=1, keepdims=True)
        coefficients = solve @ (pulled - level).reshape(-1)
        fit = level + (design @ coefficients).reshape(logs.shape)
        residuals = logs - fit
        limit = _CLIP * 1.4826 * np.median(np.abs(residuals))
        pulled = fit + np.clip(residuals, -limit, limit)
    return coefficients
