"""Results: raw samples, never rounded, trimmed or converted, with the status of their cell."""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from swbench.codec import AnyFloat, Count, any_float

Status = Literal["ok", "out_of_memory", "unsupported", "crashed", "timed_out"]
"""Failure is data: a cell that failed keeps its status and cause, and the table prints them."""

STATUSES = get_args(Status)
OK, OUT_OF_MEMORY, UNSUPPORTED, CRASHED, TIMED_OUT = STATUSES

FAILURES = (OUT_OF_MEMORY, CRASHED, TIMED_OUT)
"""Statuses that make a run exit with 3; an unsupported cell does not."""

BUDGET_SPENT = "budget spent"
"""Reason of a run that ended because its `--budget` was spent."""

PAIRED, ONE_BY_ONE, WITHOUT_CONTROL = "paired", "one by one", "one by one, without the control"
"""Key and values in `chosen` of a case that did not fit the memory together with all others, and
was measured with the baseline and its control, or with the baseline alone.
"""

COUNTED = -1
"""Replicate number of results that are counted, once for each case, instead of timed."""

FLOPS = "flops_paper"
"""Operations of one image by the rule of the paper's tables."""

FORWARD, FORWARD_BACKWARD = "forward_s", "forward_backward_s"
"""Time of one call, from its start to the end of the forward pass and to the end of the backward
pass: by the host's wall clock on a CPU, and on a GPU the mean over a block of iterations by device
events (docs/measuring-gpu.md).
"""

FORWARD_BACKWARD_WALL = "forward_backward_wall_s"
"""Host wall time of a block of iterations on a GPU, divided by their number."""

WALLS = ("forward_wall_s", FORWARD_BACKWARD_WALL)
"""Metrics of the same time, by the last pass of an iteration; in eval mode that is the forward
pass.
"""

CPU_TIME = "_cpu_s"
"""Suffix of metrics that add up the CPU seconds of all threads, which can exceed wall time."""


def call_s(samples: Mapping[str, float]) -> float:
    """Wall seconds of one call: its longest time, for F lies within F+B. 0 without a sample."""
    return max(
        (value for metric, value in samples.items() if not metric.endswith(CPU_TIME)), default=0.0
    )


@dataclass(frozen=True)
class Measurement:
    """All samples of one metric, in the order they were taken, in the SI `unit` (`s`, `B`, `J`,
    `W`, `1`).
    """

    metric: str
    unit: str
    samples: tuple[AnyFloat, ...]

    def to_json(self) -> tuple[Any, ...]:
        """A list in JSON: metric, unit and samples."""
        return self.metric, self.unit, tuple(map(any_float, self.samples))


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round: every case of a group once, in `order`; `samples` maps case key to metric to
    seconds.

    `disturbance` holds raw readings of the machine over the round (steal, pressure, involuntary
    switches …), and `blocks` maps case key to the readings around its block of GPU timing
    (`probes.card.around`). `started` is Unix time.
    """

    group: str
    replicate: Count
    attempt: str
    index: Count
    order: tuple[str, ...]
    samples: dict[str, dict[str, float]]
    disturbance: dict[str, float] = field(default_factory=dict)
    blocks: dict[str, dict[str, float]] = field(default_factory=dict)
    started: float = 0.0

    @property
    def place(self) -> tuple[int, str, int]:
        """Identifies the round in its group: replicate, worker run and index."""
        return self.replicate, self.attempt, self.index

    @property
    def ended(self) -> float:
        """Unix time of its end: the start plus the wall time of its readings, or plus the sum of
        its calls where the readings lack it.
        """
        wall_s = self.disturbance.get("wall_s")
        return self.started + (
            sum(map(call_s, self.samples.values())) if wall_s is None else wall_s
        )

    def check(self, cases: Set[str]) -> None:
        """Raises ValueError where it has a case that is not in `cases` or not in its order."""
        if not cases >= set(self.order) >= self.samples.keys() | self.blocks.keys():
            raise ValueError("a round with a case that is not of its group")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One cell and replicate, sealed when the replicate ended.

    `detail` gives the cause where `status` is not `ok`. `chosen` holds the choices at run time (the
    solver behind `auto`, the kernels). `attempt` names the worker run, so that rounds of a killed
    worker are recognised. `also` names further worker runs of the same replicate whose rounds hold
    samples of this cell: a baseline is measured again beside every case that is paired with it.
    Times are Unix times.
    """

    case: str
    group: str
    replicate: int
    attempt: str
    status: Status = OK
    detail: str = ""
    measurements: tuple[Measurement, ...] = ()
    chosen: dict[str, str] = field(default_factory=dict)
    environment: str = ""
    started: float = 0.0
    ended: float = 0.0
    also: tuple[str, ...] = ()

    @property
    def attempts(self) -> tuple[str, ...]:
        """All worker runs whose rounds hold samples of this cell."""
        return (self.attempt, *self.also)

    def samples(self, metric: str) -> tuple[float, ...]:
        """The samples of `metric`; empty where it was not measured."""
        return next((m.samples for m in self.measurements if m.metric == metric), ())


def paired(results: Iterable[Result]) -> dict[str, str]:
    """The keys of the cases that are measured one by one, and how."""
    return {result.case: result.chosen[PAIRED] for result in results if PAIRED in result.chosen}


def ran_out(results: Iterable[Result]) -> frozenset[str]:
    """The names of the groups of which a cell ran out of memory."""
    return frozenset(result.group for result in results if result.status == OUT_OF_MEMORY)
