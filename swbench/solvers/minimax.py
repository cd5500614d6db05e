"""Coefficients of the composed odd quintics that send √λ to 1 fastest, by a Remez exchange in
float64 for a given interval.
"""

from functools import lru_cache

import numpy as np

Step = tuple[float, float, float]

CUBIC: Step = (1.5, -0.5, 0.0)
"""The Newton–Schulz step x(3 − x²)/2. It squares an error near 1 and costs two products where a
quintic costs four, so it ends a schedule.
"""

CUSHION = 0.02407
"""The lowest ratio of the ends of an interval that a step is fitted to. Below it a fit is so steep
that rounding at the upper end undoes the gain.

The value is that of Amsel, Persson, Musco and Gower 2025 (The Polar Express, algorithm 1); the
schedules here are not sensitive to it.
"""

_EXCHANGES = 60
_GRID = 20001


def best_quintic(low: float, up: float) -> Step:
    """(a, b, c) minimising max |1 − (a x + b x³ + c x⁵)| over `low` ≤ x ≤ `up`.

    The error equioscillates at four points: both ends and the two extrema inside (Chebyshev). The
    exchange solves for the polynomial and the height of the oscillation, then moves the inner
    points to the extrema of that polynomial. On an interval so narrow that the equations are
    singular in float64 it is the Taylor polynomial (15, −10, 3)/8 at the middle, which is off by
    3e-16 at most.
    """
    if up - low < 1e-5 * up:
        middle = (low + up) / 2
        return 15 / (8 * middle), -10 / (8 * middle**3), 3 / (8 * middle**5)
    points = np.linspace(low, up, 5)[[0, 1, 3, 4]]
    signs = np.array([1.0, -1.0, 1.0, -1.0])
    for _ in range(_EXCHANGES):
        a, b, c, _height = np.linalg.solve(
            np.stack([points, points**3, points**5, signs], axis=1), np.ones(4)
        )
        extrema = np.roots([5 * c, 3 * b, a])  # of the polynomial, in x²
        if np.iscomplexobj(extrema) or (extrema <= 0).any():
            break
        inner = np.clip(np.sort(np.sqrt(extrema)), low, up)
        moved = np.array([low, *inner, up])
        settled = np.abs(moved - points).max() < 1e-14 * up
        points = moved
        if settled:
            break
    return float(a), float(b), float(c)


def _values(step: Step, low: float, up: float) -> np.ndarray:
    a, b, c = step
    x = np.geomspace(low, up, _GRID)
    return x * (a + x**2 * (b + x**2 * c))


@lru_cache(maxsize=64)
def schedule(low: float, steps: int) -> tuple[tuple[Step, ...], float]:
    """`steps` quintics for x in [`low`, 1], and how far from 1 the worst x ends.

    Each is the best quintic for the interval that the step before leaves, which is optimal for the
    composition too (Amsel et al. 2025, theorem 1). Where that interval is wider than `CUSHION`
    allows, the fit is cut short and rescaled to stay centred on 1. Raises ValueError unless 0 <
    `low` < 1 and `steps` ≥ 1.
    """
    if not 0 < low < 1 or steps < 1:
        raise ValueError(
            f"a schedule needs 0 < low < 1 and at least one step, not low={low} and steps={steps}"
        )
    up, out = 1.0, []
    for _ in range(steps):
        step = best_quintic(max(low, CUSHION * up), up)
        values = _values(step, low, up)
        centre = (values.max() + values.min()) / 2
        step = tuple(float(p / centre) for p in step)
        values = values / centre
        out.append(step)
        low, up = float(values.min()), float(values.max())
    return tuple(out), max(1 - low, up - 1)


@lru_cache(maxsize=64)
def steps_needed(low: float, error: float) -> int:
    """The fewest quintics that bring every x in [`low`, 1] within `error` of 1. Raises ValueError
    where 40 are not enough.
    """
    for steps in range(1, 41):
        if schedule(low, steps)[1] <= error:
            return steps
    raise ValueError(f"no schedule of at most 40 steps takes [{low}, 1] to within {error} of 1")
