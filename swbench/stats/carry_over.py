"""Carry-over: how much slower any case runs right after a given case, estimated from the random
orders of the rounds.
"""

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
"""Least numbers for an estimate. With two cases each can only follow the other, so neither cost can
be estimated. Fewer rounds contain too few different orders.
"""

_CLIP, _STEPS = 2.0, 12
"""Residuals are clipped at `_CLIP` standard deviations (Huber 1964), in `_STEPS` repeated fits.
Heuristics.
"""


@dataclass(frozen=True)
class CarryOver:
    """How much slower any case runs right after `case` than right after the baseline (log ratio).
    `values` holds one estimate for each process.
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
        """P-value of a two-sided t-test of the mean against 0."""
        # scipy.stats would cost a second at start-up
        from scipy.special import stdtr

        if not self.error:
            return 0.0 if self.mean else 1.0
        return 2.0 * float(stdtr(len(self.values) - 1, -abs(self.mean) / self.error))


def carry_overs(
    workers: Sequence[Sequence[Round]], baseline: str, metric: str
) -> tuple[CarryOver, ...]:
    """The carry-over of each case but the baseline, from the rounds of one group, a list for each
    worker process. `baseline` is a case key.

    In each process the log of a time is modelled as the sum of effects of the round, the case, the
    position in the round, and the case before it. Cases with estimates from fewer than two
    processes are left out.
    """
    costs: dict[str, list[float]] = {}
    for rounds in workers:
        for case, value in _worker_costs(rounds, baseline, metric).items():
            costs.setdefault(case, []).append(value)
    return tuple(
        CarryOver(case, metric, tuple(values)) for case, values in costs.items() if len(values) > 1
    )


def corrected(rounds: Sequence[Round], metric: str, costs: Mapping[str, float]) -> list[Round]:
    """The rounds without carry-over: each time is divided by exp(cost) of the case before it.
    `costs` are on the log scale, by case key.
    """
    corrected_rounds = []
    for round_ in rounds:
        before = dict(zip(round_.order[1:], round_.order, strict=False))
        samples = {
            key: {**times, metric: times[metric] * math.exp(-costs[before[key]])}
            if metric in times and before.get(key) in costs
            else times
            for key, times in round_.samples.items()
        }
        corrected_rounds.append(replace(round_, samples=samples))
    return corrected_rounds


def _worker_costs(rounds: Sequence[Round], baseline: str, metric: str) -> dict[str, float]:
    import numpy as np

    complete = [
        round_
        for round_ in rounds
        if all(round_.samples.get(key, {}).get(metric, 0.0) > 0 for key in round_.order)
    ]
    kinds = Counter(frozenset(round_.order) for round_ in complete)
    cases = max(kinds, key=lambda kind: kinds[kind], default=frozenset())
    complete = [round_ for round_ in complete if frozenset(round_.order) == cases]
    if baseline not in cases or len(cases) < LEAST_CASES or len(complete) < LEAST_ROUNDS:
        return {}
    names = sorted(cases)
    index = {case: position for position, case in enumerate(names)}
    orders = np.array([[index[case] for case in round_.order] for round_ in complete])
    logs = np.log([[round_.samples[case][metric] for case in round_.order] for round_ in complete])
    design = _design(orders, len(names))
    solve_matrix = np.linalg.pinv(design.T @ design, rcond=1e-10, hermitian=True) @ design.T
    wanted = {
        case: _contrast(index[case], index[baseline], len(names), design.shape[1])
        for case in names
        if case != baseline
    }
    # Only contrasts that these orders can estimate: for the others pinv gives another quantity.
    shown = solve_matrix @ design
    fitted = _robust(logs, design, solve_matrix)
    return {
        case: float(contrast @ fitted)
        for case, contrast in wanted.items()
        if np.allclose(contrast @ shown, contrast, atol=1e-6)
    }


def _design(orders: np.ndarray, cases: int) -> np.ndarray:
    """The design matrix: a row for each sample, a column for each case, position and predecessor.
    From every row the mean row of its round is subtracted.
    """
    import numpy as np

    rounds, size = orders.shape
    design = np.zeros((rounds, size, 3 * cases))
    cell = np.arange(rounds)[:, None], np.arange(size)[None, :]
    design[(*cell, orders)] = 1.0
    design[(*cell, cases + np.arange(size)[None, :])] = 1.0
    design[cell[0], cell[1][:, 1:], 2 * cases + orders[:, :-1]] = 1.0
    design -= design.mean(axis=1, keepdims=True)
    return design.reshape(rounds * size, 3 * cases)


def _contrast(case: int, baseline: int, cases: int, columns: int) -> np.ndarray:
    import numpy as np

    contrast = np.zeros(columns)
    contrast[2 * cases + case], contrast[2 * cases + baseline] = 1.0, -1.0
    return contrast


def _robust(logs: np.ndarray, design: np.ndarray, solve_matrix: np.ndarray) -> np.ndarray:
    """Huber's estimate of the columns' coefficients, with a free level for each round: values far
    from the fit are clipped, and the fit is repeated.
    """
    import numpy as np

    clipped = logs
    for _ in range(_STEPS):
        level = clipped.mean(axis=1, keepdims=True)
        coefficients = solve_matrix @ (clipped - level).reshape(-1)
        fit = level + (design @ coefficients).reshape(logs.shape)
        residuals = logs - fit
        limit = _CLIP * 1.4826 * np.median(np.abs(residuals))
        clipped = fit + np.clip(residuals, -limit, limit)
    return coefficients
