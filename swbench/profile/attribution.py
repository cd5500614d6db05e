"""Attribution of the profiler's events to layers and operators: every nanosecond of a call goes to
exactly one layer and operator.
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
"""Names for time that belongs to no layer: autograd between two nodes, the call around the model,
backward nodes of unknown origin, a GPU without work; and the difference between the median call and
the sum of its parts' medians (mostly other programs; it can be negative).
"""

_NODE = "autograd::engine::evaluate_function: "
_ACCUMULATE = "AccumulateGrad"


@dataclass
class OperatorTime:
    """Time of one (layer, operator, phase) in one call, in seconds."""

    seconds: float = 0.0
    host_s: float = 0.0
    launches: int = 0


@dataclass
class Breakdown:
    """One profiled call: its wall time by phase, and the time of each (path, operator, phase)."""

    total_s: dict[str, float] = field(default_factory=dict)
    spent: dict[tuple[str, str, str], OperatorTime] = field(
        default_factory=lambda: defaultdict(OperatorTime)
    )


@dataclass(frozen=True)
class _Location:
    phase: str | None = None
    path: str = HARNESS
    operator: str | None = None


def parts_of(breakdowns: Sequence[Breakdown]) -> dict[str, tuple[Part, ...]]:
    """Parts by layer over several calls: medians, because a call that another program interrupts
    would distort the mean of a small layer.

    The difference between the median call and the sum of these medians is a part of `UNEVEN`, so
    that all parts add up to the call.
    """
    parts: dict[str, list[Part]] = defaultdict(list)
    remainder_s = {
        phase: median(breakdown.total_s[phase] for breakdown in breakdowns) for phase in PHASES
    }
    for path, operator, phase in dict.fromkeys(
        key for breakdown in breakdowns for key in breakdown.spent
    ):
        times = [
            breakdown.spent.get((path, operator, phase), OperatorTime()) for breakdown in breakdowns
        ]
        seconds, host_s, launches = (
            median(getattr(time, name) for time in times)
            for name in ("seconds", "host_s", "launches")
        )
        parts[path].append(
            Part(phase=phase, operator=operator, seconds=seconds, host_s=host_s, launches=launches)
        )
        remainder_s[phase] -= seconds
    parts[UNEVEN] = [
        Part(
            phase=phase,
            operator=operators.UNEVEN,
            seconds=remainder_s[phase],
            host_s=0.0,
            launches=0,
        )
        for phase in PHASES
    ]
    return {path: tuple(layer_parts) for path, layer_parts in parts.items()}


def break_down(events: Iterable, kinds: dict[str, str], device: str) -> Breakdown:
    """The breakdown of one call from `torch.profiler`'s events (`FunctionEvent`). `kinds` maps the
    paths of layers to their kind.

    In the forward pass an event belongs to the innermost module annotation around it. In the
    backward pass an autograd node belongs to the layer of the forward operation that has the same
    sequence number, and a gradient accumulation to the node that ran before it. On a CPU the
    seconds are the events' own time. On a GPU they are those of the kernels that the events
    launched, and the rest of the wall time is `IDLE`.
    """
    return _Attribution(kinds, device != "cpu").run(
        [e for e in events if str(e.device_type).endswith("CPU") and not e.is_async]
    )


class _Attribution:
    def __init__(self, kinds: dict[str, str], on_device: bool) -> None:
        self.kinds, self.on_device = kinds, on_device
        self.owners: dict[tuple[int, int], tuple[str, str]] = {}
        self.latest_path: dict[int, str] = {}
        self.breakdown = Breakdown(dict.fromkeys(PHASES, 0.0))

    def run(self, events: list) -> Breakdown:
        """Attribute the events in the order of their start, so that a forward operation comes
        before its backward node.
        """
        locations: dict[int, _Location] = {}
        for event in sorted(events, key=lambda e: (e.time_range.start, -e.time_range.end)):
            parent = (
                locations.get(id(event.cpu_parent), _Location())
                if event.cpu_parent is not None
                else _Location()
            )
            location = locations[id(event)] = self._location(event, parent)
            if location.phase is not None:
                self._add_time(event, location)
        if self.on_device:
            for phase in PHASES:
                busy = sum(
                    spent.seconds
                    for (_, _, of), spent in self.breakdown.spent.items()
                    if of == phase
                )
                self.breakdown.spent[IDLE, operators.IDLE, phase].seconds = (
                    self.breakdown.total_s[phase] - busy
                )
        return self.breakdown

    def _location(self, event, parent: _Location) -> _Location:
        name = event.name
        if name.startswith(PHASE):
            phase = name.removeprefix(PHASE)
            self.breakdown.total_s[phase] += event.time_range.elapsed_us() * 1e-6
            backward = phase == BACKWARD
            return _Location(
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
            location = parent
            if parent.operator in (None, operators.HARNESS):
                location = replace(parent, operator=self._operator(parent.path, name))
            if event.sequence_nr >= 0:
                # Several operations can carry a number, that of the next node. The last of them
                # created the node, so later entries overwrite earlier ones.
                self.owners[event.thread, event.sequence_nr] = (location.path, location.operator)
            return location
        return parent

    def _node(self, event, name: str) -> _Location:
        if _ACCUMULATE in name:
            path, operator = self.latest_path.get(event.thread, UNKNOWN), operators.ACCUMULATION
        else:
            path, operator = self.owners.get(
                (event.fwd_thread, event.sequence_nr), (UNKNOWN, operators.UNKNOWN)
            )
            self.latest_path[event.thread] = path
        return _Location(BACKWARD, path, operator)

    def _operator(self, path: str, operation: str) -> str:
        operator = operators.operator_of(operation)
        if self.kinds.get(path) == NORM:
            return operators.FUSED if operator == operators.FUSED else operators.REST
        return operator

    def _add_time(self, event, location: _Location) -> None:
        operator = location.operator or operators.PYTHON
        operator_time = self.breakdown.spent[location.path, operator, location.phase]
        host_s = event.self_cpu_time_total * 1e-6
        kernels = (
            [kernel for kernel in event.kernels if kernel.name != event.name]
            if self.on_device
            else []
        )
        operator_time.host_s += host_s
        operator_time.launches += len(kernels)
        operator_time.seconds += (
            sum(kernel.duration for kernel in kernels) * 1e-6 if self.on_device else host_s
        )
