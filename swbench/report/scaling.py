"""What communication would cost on more devices than were measured: latency and bandwidth fitted to single collectives, applied to every layer.

A ring sends each of W − 1 others' parts on in turn: an all-gather of b bytes a rank takes W − 1 steps and moves (W − 1)·b, an
all-reduce 2·(W − 1) steps and 2·(W − 1)/W·b (Thakur, Rabenseifner and Gropp 2005). A tree or recursive doubling needs ⌈log₂ W⌉ steps instead of
W − 1 for the same bytes. Libraries choose between them, so a prediction is the range from one to the other.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, log2
from statistics import median

import numpy as np

from swbench.case import Case
from swbench.result import OK

GATHER, REDUCE = "all_gather", "all_reduce"
WORLDS = (8, 64, 1024)
"""Numbers of devices that are predicted."""


@dataclass(frozen=True)
class Collective:
    """One size of one kind among `world` ranks: the median `seconds` of `nbytes` a rank."""

    kind: str
    world: int
    nbytes: float
    seconds: float


@dataclass(frozen=True)
class Link:
    """Seconds a step, seconds a byte, and the largest relative error of the fit on what it was fitted to."""

    latency_s: float
    byte_s: float
    worst: float = 0.0

    def seconds(self, kind: str, world: int, nbytes: float, *, tree: bool = False) -> float:
        """One collective of `nbytes` a rank among `world` ranks."""
        steps, moved = _work(kind, world, nbytes)
        if tree:
            steps = steps / (world - 1) * ceil(log2(world)) if world > 1 else 0
        return self.latency_s * steps + self.byte_s * moved


def _work(kind: str, world: int, nbytes: float) -> tuple[float, float]:
    """Steps of a ring, and bytes that each rank sends."""
    if kind == GATHER:
        return world - 1, (world - 1) * nbytes
    return 2 * (world - 1), 2 * (world - 1) / world * nbytes


def measured(run) -> list[Collective]:
    """The single collectives that the cells of a run timed, the median of each size over repeats, replicates and ranks that led."""
    worlds = {case.key: case.world for group in run.plan.groups for case in group.cases if isinstance(case, Case)}
    times: dict[tuple[str, int, float], list[float]] = {}
    for one in run.results:
        for kind in (GATHER, REDUCE):
            for nbytes, seconds in zip(one.samples(f"{kind}_bytes"), one.samples(f"{kind}_s"), strict=True):
                times.setdefault((kind, worlds[one.case], nbytes), []).append(seconds)
    return [Collective(*key, median(samples)) for key, samples in times.items()]


def fit(points: Sequence[Collective]) -> Link:
    """Least squares of the relative errors; neither latency nor time a byte is negative. Raises ValueError without two sizes."""
    if len({point.nbytes for point in points if point.world > 1}) < 2:
        raise ValueError("a fit of latency and bandwidth needs collectives of two sizes at least")
    work = np.array([_work(point.kind, point.world, point.nbytes) for point in points])
    scaled = work / np.array([[point.seconds] for point in points])
    ones = np.ones(len(points))
    latency, byte = np.linalg.lstsq(scaled, ones, rcond=None)[0]
    if latency < 0 or byte < 0:
        column = scaled[:, 1] if latency < 0 else scaled[:, 0]
        alone = float(column @ ones / (column @ column))
        latency, byte = (0.0, alone) if latency < 0 else (alone, 0.0)
    errors = np.abs(scaled @ np.array([latency, byte]) - 1)
    return Link(float(latency), float(byte), float(errors.max()))


@dataclass(frozen=True)
class Prediction:
    """What the normalisation layers of one row would spend in communication in one step among `world` devices, from a tree to a ring."""

    row: str
    world: int
    layers: int
    low_s: float
    high_s: float


def predict(run, link: Link, worlds: Iterable[int] = WORLDS) -> list[Prediction]:
    """A row of the run each (its largest number of processes), for each of `worlds`. Rows whose layers send nothing are left out."""
    rows = {case.key: row for group in run.plan.groups for case, row in zip(group.cases, group.rows, strict=True)}
    sent: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {}
    for one in run.results:
        if one.status == OK and one.samples("gather_bytes"):
            sent[rows[one.case]] = one.samples("gather_bytes"), one.samples("reduce_bytes")
    found = []
    for row, (gathers, reduces) in sent.items():
        for world in worlds:
            low, high = (
                sum(link.seconds(GATHER, world, b, tree=tree) for b in gathers) + sum(link.seconds(REDUCE, world, b, tree=tree) for b in reduces)
                for tree in (True, False)
            )
            found.append(Prediction(row, world, len(gathers), low, high))
    return found
