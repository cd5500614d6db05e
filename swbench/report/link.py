"""What one collective costs by the number of ranks and of bytes: a time a call, a step and a byte,
fitted to measured ones, and how wrong that is.

A ring sends each of W − 1 others' parts on in turn: an all-gather of b bytes a rank takes W − 1
steps and moves (W − 1)·b, an all-reduce 2·(W − 1) steps and 2·(W − 1)/W·b (Thakur, Rabenseifner and
Gropp 2005). A tree or recursive doubling needs ⌈log₂ W⌉ steps instead of W − 1 for the same bytes.
Libraries choose between them, so what is said of other numbers of ranks is a range from one to the
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, log2

import numpy as np

GATHER, REDUCE = "all_gather", "all_reduce"


@dataclass(frozen=True)
class Collective:
    """One size of one kind among `world` ranks: `seconds` for `nbytes` a rank."""

    kind: str
    world: int
    nbytes: float
    seconds: float


@dataclass(frozen=True)
class Link:
    """Seconds a call, a step and a byte of one kind of collective among numbers of ranks in
    `worlds`.

    `error` is the root mean square of the relative errors on points that were left out of the fit,
    `worst` the largest. Among one number of ranks a call cannot be told from its steps: `step_s` is
    0 then, and what is said of other numbers reaches from all of `call_s` being a call's to all
    being steps'.
    """

    kind: str
    worlds: tuple[int, ...]
    call_s: float
    step_s: float
    byte_s: float
    error: float = 0.0
    worst: float = 0.0

    def seconds(self, world: int, nbytes: float) -> float:
        """A collective of `nbytes` a rank among one of `worlds`."""
        steps, moved = _ring(self.kind, world, nbytes)
        return (self.call_s + self.step_s * steps + self.byte_s * moved) if world > 1 else 0.0

    def between(self, world: int, nbytes: float) -> tuple[float, float]:
        """The least and the most that a collective among any number of ranks should take."""
        if world < 2:
            return 0.0, 0.0
        steps, moved = _ring(self.kind, world, nbytes)
        tree = steps / (world - 1) * ceil(log2(world))
        if len(self.worlds) > 1:
            return tuple(
                self.call_s + self.step_s * one + self.byte_s * moved for one in (tree, steps)
            )
        calls = steps / _ring(self.kind, self.worlds[0], nbytes)[0]
        low, high = sorted((self.call_s, self.call_s * calls))
        return low + self.byte_s * moved, high + self.byte_s * moved


def fit(points: Sequence[Collective]) -> Link:
    """The link behind points of one kind: least squares of the relative errors, nothing negative.
    Raises ValueError without three sizes.
    """
    points = [point for point in points if point.world > 1]
    if len({point.nbytes for point in points}) < 3:
        raise ValueError("a fit of a collective's cost needs three sizes of it at least")
    left_out = [
        abs(
            _fit(points[:place] + points[place + 1 :]).seconds(one.world, one.nbytes) / one.seconds
            - 1
        )
        for place, one in enumerate(points)
    ]
    left_out += _elsewhere(points)
    return replace(
        _fit(points), error=float(np.sqrt(np.mean(np.square(left_out)))), worst=max(left_out)
    )


def _fit(points: Sequence[Collective]) -> Link:
    from scipy.optimize import nnls

    worlds = tuple(sorted({point.world for point in points}))
    rings = [_ring(point.kind, point.world, point.nbytes) for point in points]
    columns = np.array([(1.0, steps if len(worlds) > 1 else 0.0, moved) for steps, moved in rings])
    relative = columns / np.array([[point.seconds] for point in points])
    scale = relative.max(axis=0)
    scale[scale == 0] = 1.0  # bytes and calls are orders of magnitude apart
    found, _ = nnls(relative / scale, np.ones(len(points)))
    return Link(points[0].kind, worlds, *(found / scale).tolist())


def _elsewhere(points: Sequence[Collective]) -> list[float]:
    """How far the points of the most ranks lie outside of what those of fewer say of them; nothing
    where all are of as many ranks.
    """
    most = max(point.world for point in points)
    fewer = [point for point in points if point.world < most]
    if len({point.nbytes for point in fewer}) < 2:
        return []
    link, found = _fit(fewer), []
    for point in points:
        if point.world == most:
            low, high = link.between(most, point.nbytes)
            found.append(max(0.0, low / point.seconds - 1, 1 - high / point.seconds))
    return found


def _ring(kind: str, world: int, nbytes: float) -> tuple[float, float]:
    """Steps of a ring, and bytes that each rank sends."""
    if kind == GATHER:
        return world - 1, (world - 1) * nbytes
    return 2 * (world - 1), 2 * (world - 1) / world * nbytes
