"""What normalisation layers would spend in communication on more devices than were measured, and
whether that holds where they were measured.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import median, quantiles, stdev

from swbench.case import VARIANT, Case
from swbench.plan import Group
from swbench.report.link import GATHER, REDUCE, Collective, Link, fit
from swbench.result import OK

WORLDS = (8, 64, 1024)
"""Numbers of devices that are predicted."""

UNRELIABLE = 0.5
"""From this relative error on left-out points a fit is called unreliable; heuristic."""

EXPLAINED = 2.0
"""By how much what was measured may differ from what was predicted of it without a mark;
heuristic.
"""

DOES_NOT_HOLD = "does not hold"


def measured(run) -> list[Collective]:
    """The single collectives that the cells of a run timed: of each size the lower quartile over
    repeats, replicates and groups.

    Not the median: a rank that waits for a core is late by a scheduler's slice, milliseconds beside
    the link's own tenths, and on a busy machine the median of a few repeats is now one, now the
    other.
    """
    worlds = {
        case.key: case.world
        for group in run.plan.groups
        for case in group.cases
        if isinstance(case, Case)
    }
    times: dict[tuple[str, int, float], list[float]] = {}
    for one in run.results:
        for kind in (GATHER, REDUCE):
            for nbytes, seconds in zip(
                one.samples(f"{kind}_bytes"), one.samples(f"{kind}_s"), strict=True
            ):
                times.setdefault((kind, worlds[one.case], nbytes), []).append(seconds)
    return [
        Collective(
            *key, quantiles(samples, n=4, method="inclusive")[0] if len(samples) > 1 else samples[0]
        )
        for key, samples in times.items()
    ]


def links(points: Iterable[Collective]) -> dict[str, Link]:
    """The fit of each kind. Raises ValueError where there are too few sizes of one."""
    points = list(points)
    return {
        kind: fit([point for point in points if point.kind == kind]) for kind in (GATHER, REDUCE)
    }


@dataclass(frozen=True)
class Prediction:
    """What the normalisation layers of one row would spend in communication in one step among
    `world` devices.

    `error` is the larger relative error of the two fits on points that were left out of them.
    """

    row: str
    world: int
    layers: int
    low_s: float
    high_s: float
    error: float


@dataclass(frozen=True)
class Check:
    """A row among the processes it was measured on: what was predicted of its whitening layers, and
    what these did cost, exposed.

    `exposed_s` is how much longer a step is for what it sends, beyond the baseline's (gradients),
    with the standard error `noise_s`; None where it was not measured.
    """

    row: str
    world: int
    batch: int
    predicted_s: float
    exposed_s: float | None
    noise_s: float = 0.0

    @property
    def verdict(self) -> str:
        """Whether measured and predicted agree within `EXPLAINED`: `holds`, `too noisy to tell`,
        `does not hold`, or `not measured`.
        """
        if self.exposed_s is None:
            return "not measured"
        if (
            self.exposed_s - 2 * self.noise_s > self.predicted_s * EXPLAINED
            or self.exposed_s + 2 * self.noise_s < self.predicted_s / EXPLAINED
        ):
            return DOES_NOT_HOLD
        return "too noisy to tell" if 2 * self.noise_s > self.predicted_s * EXPLAINED else "holds"


def predict(run, found: Mapping[str, Link], worlds: Iterable[int] = WORLDS) -> list[Prediction]:
    """A row of the run each, for each of `worlds`. Rows whose layers send nothing are left out."""
    worlds, error = tuple(worlds), max(link.error for link in found.values())
    rows = {row: sent for row, _, sent in _sent(run)}
    predictions = []
    for row, sent in rows.items():
        for world in worlds:
            each = [
                found[kind].between(world, nbytes)
                for kind, sizes in sent.items()
                for nbytes in sizes
            ]
            predictions.append(
                Prediction(
                    row,
                    world,
                    len(sent[GATHER]),
                    sum(low for low, _ in each),
                    sum(high for _, high in each),
                    error,
                )
            )
    return predictions


def check(run, found: Mapping[str, Link]) -> list[Check]:
    """What the fit says of every row among the processes that it was measured on, beside what was
    measured.
    """
    sent = {place: sizes for _, place, sizes in _sent(run)}
    checks = []
    for row, (group, case), sizes in _sent(run):
        baseline = group.baseline
        if case.role != VARIANT:
            continue
        predicted_s = 0.0
        for kind, own in sizes.items():
            # SyncBatchNorm sends in both, and always
            layers = Counter(own) - Counter(sent.get((group, baseline), {}).get(kind, ()))
            predicted_s += sum(
                count * found[kind].seconds(case.world, nbytes) for nbytes, count in layers.items()
            )
        own, base = (_exposed(run, group.name, one.key) for one in (case, baseline))
        known = len(own) > 1 and len(base) > 1
        # 1.2533: of a median
        noise_s = (
            hypot(*(1.2533 * stdev(one) / sqrt(len(one)) for one in (own, base))) if known else 0.0
        )
        checks.append(
            Check(
                row,
                case.world,
                case.batch,
                predicted_s,
                median(own) - median(base) if known else None,
                noise_s,
            )
        )
    return checks


def _sent(run) -> Iterable[tuple[str, tuple[Group, Case], dict[str, tuple[float, ...]]]]:
    """Every row and case whose layers communicate: where it is, and the bytes of each layer's
    collectives by kind.
    """
    samples = {
        (one.group, one.case): one
        for one in run.results
        if one.status == OK and one.samples("gather_bytes")
    }
    for group in run.plan.groups:
        for case, row in zip(group.cases, group.rows, strict=True):
            if (one := samples.get((group.name, case.key))) is not None:
                yield (
                    row,
                    (group, case),
                    {GATHER: one.samples("gather_bytes"), REDUCE: one.samples("reduce_bytes")},
                )


def _exposed(run, group: str, key: str) -> list[float]:
    """Seconds by which each step was longer than the one beside it that sent nothing."""
    pairs = (
        (one.samples("joint_forward_backward_s"), one.samples("alone_forward_backward_s"))
        for one in run.results
        if (one.group, one.case) == (group, key)
    )
    return [
        joint_s - alone_s
        for joint, alone in pairs
        for joint_s, alone_s in zip(joint, alone, strict=False)
    ]
