"""From the profiler's events to layers and operators: every nanosecond of a call goes to exactly
one of them.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from swbench.profile import operators
from swbench.profile.annotations import LAYER, PART, PHASE
from swbench.profile.types import BACKWARD, FORWARD, NORM, PHASES, Part

ENGINE, HARNESS, UNKNOWN, IDLE = (
    "(autograd engine)",
    "(outside the model)",
    "(unattributed)",
    "(device idle)",
)
UNEVEN = "(uneven between calls)"
"""Where time goes that belongs to no layer: autograd between two nodes, the call around the model,
backward nodes of unknown origin, a GPU without work; and what the median call took beyond the sum
of its parts' medians (other programs, mostly; it can come out negative).
"""

_NODE = "autograd::engine::evaluate_function: "
_ACCUMULATE = "AccumulateGrad"


@dataclass
class Spent:
    """What one (layer, operator, phase) took in one call, seconds."""

    seconds: float = 0.0
    host_s: float = 0.0
    launches: int = 0


@dataclass
class Breakdown:
    """One profiled call: wall time by phase, and what each (path, operator, phase) took of it."""

    total_s: dict[str, float] = field(default_factory=dict)
    spent: dict[tuple[str, str, str], Spent] = field(default_factory=lambda: defaultdict(Spent))


@dataclass(frozen=True)
class _Place:
    phase: str | None = None
    path: str = HARNESS
    operator: str | None = None


def parts_of(breakdowns: Sequence[Breakdown]) -> dict[str, tuple[Part, ...]]:
    """Parts by layer over several calls: medians, because a call in which another program got in
    would spoil the mean of a small layer.

    What the medians leave of the median call is a part of `UNEVEN`, so that the sum stays whole.
    """
    found: dict[str, list[Part]] = defaultdict(list)
    rest = {phase: median(one.total_s[phase] for one in breakdowns) for phase in PHASES}
    for path, operator, phase in dict.fromkeys(key for one in breakdowns for key in one.spent):
        spent = [one.spent.get((path, operator, phase), Spent()) for one in breakdowns]
        seconds, host_s, launches = (
            median(getattr(one, name) for one in spent)
            for name in ("seconds", "host_s", "launches")
        )
        found[path].append(
            Part(phase=phase, operator=operator, seconds=seconds, host_s=host_s, launches=launches)
        )
        rest[phase] -= seconds
    found[UNEVEN] = [
        Part(phase=phase, operator=operators.UNEVEN, seconds=rest[phase], host_s=0.0, launches=0)
        for phase in PHASES
    ]
    return {path: tuple(parts) for path, parts in found.items()}


def break_down(events: Iterable, kinds: dict[str, str], device: str) -> Breakdown:
    """The breakdown of one call from `torch.profiler`'s events (`FunctionEvent`). `kinds` maps the
    paths of layers to their kind.

    Forward, an event belongs to the innermost module mark around it. Backward, an autograd node
    belongs to the layer of the forward operation with its sequence number, and a gradient
    accumulation to the node that ran before it. On a CPU the seconds are the events' own time; on a
    GPU those of the kernels they launched, and what is missing to the wall time is `IDLE`.
    """
    return _Attribution(kinds, device != "cpu").run(
        [e for e in events if str(e.device_type).endswith("CPU") and not e.is_async]
    )


class _Attribution:
    def __init__(self, kinds: dict[str, str], on_device: bool) -> None:
        self.kinds, self.on_device = kinds, on_device
        self.owners: dict[tuple[int, int], tuple[str, str]] = {}
        self.latest: dict[int, str] = {}
        self.found = Breakdown(dict.fromkeys(PHASES, 0.0))

    def run(self, events: list) -> Breakdown:
        """Walk the events in the order in which they began: a forward operation comes before its
        backward node.
        """
        places: dict[int, _Place] = {}
        for event in sorted(events, key=lambda e: (e.time_range.start, -e.time_range.end)):
            parent = (
                places.get(id(event.cpu_parent), _Place())
                if event.cpu_parent is not None
                else _Place()
            )
            place = places[id(event)] = self._place(event, parent)
            if place.phase is not None:
                self._add(event, place)
        if self.on_device:
            for phase in PHASES:
                busy = sum(
                    spent.seconds for (_, _, of), spent in self.found.spent.items() if of == phase
                )
                self.found.spent[IDLE, operators.IDLE, phase].seconds = (
                    self.found.total_s[phase] - busy
                )
        return self.found

    def _place(self, event, parent: _Place) -> _Place:
        name = event.name
        if name.startswith(PHASE):
            phase = name.removeprefix(PHASE)
            self.found.total_s[phase] += event.time_range.elapsed_us() * 1e-6
            backward = phase == BACKWARD
            return _Place(
                phase,
                ENGINE if backward else HARNESS,
                operators.ENGINE if backward else operators.HARNESS,
            )
        if name.startswith(LAYER):
            path = name.removeprefix(LAYER)
            return replace(parent, path=path, operator=None)
        if name.startswith(PART):
            return replace(parent, operator=name.removeprefix(PART))
        if name.startswith(_NODE):
            return self._node(event, name.removeprefix(_NODE))
        if parent.phase == FORWARD:
            place = parent
            if parent.operator in (None, operators.HARNESS):
                place = replace(parent, operator=self._operator(parent.path, name))
            if event.sequence_nr >= 0:
                # An operation carries the number of the next node to be made, whether it makes one
                # or not: the last to carry it did.
                self.owners[event.thread, event.sequence_nr] = (place.path, place.operator)
            return place
        return parent

    def _node(self, event, name: str) -> _Place:
        if _ACCUMULATE in name:
            path, operator = self.latest.get(event.thread, UNKNOWN), operators.ACCUMULATION
        else:
            path, operator = self.owners.get(
                (event.fwd_thread, event.sequence_nr), (UNKNOWN, operators.UNKNOWN)
            )
            self.latest[event.thread] = path
        return _Place(BACKWARD, path, operator)

    def _operator(self, path: str, operation: str) -> str:
        operator = operators.operator_of(operation)
        if self.kinds.get(path) == NORM:
            return operators.FUSED if operator == operators.FUSED else operators.REST
        return operator

    def _add(self, event, place: _Place) -> None:
        operator = place.operator or operators.PYTHON
        spent = self.found.spent[place.path, operator, place.phase]
        host_s = event.self_cpu_time_total * 1e-6
        kernels = (
            [kernel for kernel in event.kernels if kernel.name != event.name]
            if self.on_device
            else []
        )
        spent.host_s += host_s
        spent.launches += len(kernels)
        spent.seconds += (
            sum(kernel.duration for kernel in kernels) * 1e-6 if self.on_device else host_s
        )
