"""Types of a profile: seconds, FLOPs and traffic of every layer for each pass, and the peak rates
of the machine.
"""

import dataclasses
from dataclasses import dataclass
from statistics import median
from typing import Any

from swbench import program
from swbench.case import Case, case_from_json
from swbench.errors import SchemaTooNew, StoreDamaged

SCHEMA = 1
"""Format history: 1, the first."""

FORWARD, BACKWARD = "forward", "backward"
PHASES = (FORWARD, BACKWARD)

CONV, NORM, OTHER, REMAINDER = "conv", "norm", "other", "remainder"
"""Kinds of layer. `remainder` is time that belongs to no layer; its path is a name in
parentheses.
"""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Time of one operator within one layer and phase: the median over the calls used.

    `seconds` is the operator's own time, without nested operators: the host's on a CPU, that of the
    kernels on a GPU. `host_s` is the host's own time in both cases (while profiled), `launches` the
    number of kernels launched on a GPU, 0 on a CPU.
    """

    phase: str
    operator: str
    seconds: float
    host_s: float
    launches: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """Arithmetic and compulsory traffic of a layer in one phase (docs/profile.md): `flops` at two
    per multiply-add, `traffic_bytes` read and written.
    """

    phase: str
    flops: float
    traffic_bytes: float

    @property
    def intensity(self) -> float | None:
        """FLOPs per byte; None where nothing is moved."""
        return self.flops / self.traffic_bytes if self.traffic_bytes else None


@dataclass(frozen=True, kw_only=True)
class Roof:
    """The peak rates of the roofline model, measured in a short calibration with the case's threads
    and dtype: a large product, and a copy too large for the caches.
    """

    flops_per_s: float
    bytes_per_s: float

    def limit_s(self, work: Work) -> float:
        """The least time the roof allows for `work`: the longer of its arithmetic and its
        traffic.
        """
        return max(work.flops / self.flops_per_s, work.traffic_bytes / self.bytes_per_s)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One module (`path`, as in `named_modules`; `type`, its class), or a remainder. `paper_flops`:
    forward, by the paper's inferred rule.
    """

    path: str
    kind: str
    type: str = ""
    parts: tuple[Part, ...] = ()
    work: tuple[Work, ...] = ()
    paper_flops: int | None = None

    def seconds(self, phase: str | None = None) -> float:
        """Time in `phase`, or in both."""
        return sum(part.seconds for part in self.parts if phase in (None, part.phase))

    def work_in(self, phase: str) -> Work | None:
        """Arithmetic and traffic in `phase`; None where they are not known."""
        return next((work for work in self.work if work.phase == phase), None)

    def share_of_roof(self, phase: str, roof: Roof) -> float | None:
        """The achieved rate over min(peak, intensity · bandwidth). Above 1 where the layer's data
        stay in a cache; None without work or time.
        """
        work, seconds = self.work_in(phase), self.seconds(phase)
        return roof.limit_s(work) / seconds if work and seconds > 0 and work.traffic_bytes else None


@dataclass(frozen=True, kw_only=True)
class Iteration:
    """Wall time in seconds of one profiled call, and of the unprofiled call right before it. `used`
    says whether the call belongs to the quicker half.
    """

    forward_s: float
    backward_s: float
    plain_forward_s: float
    plain_backward_s: float
    used: bool = True

    def profiled_s(self, phase: str) -> float:
        """Seconds of the profiled call in `phase`."""
        return self.forward_s if phase == FORWARD else self.backward_s

    def plain_s(self, phase: str) -> float:
        """Seconds of the unprofiled call in `phase`."""
        return self.plain_forward_s if phase == FORWARD else self.plain_backward_s


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The profile of `case`. The layers' seconds of a phase, with remainders, add up to `total_s`
    of that phase.

    `chosen` holds the layers' decisions at run time, `remarks` a sentence for each thing that a
    reader must know.
    """

    case: Case
    iterations: tuple[Iteration, ...]
    layers: tuple[Layer, ...]
    roof: Roof
    chosen: dict[str, str]
    environment: dict[str, str]
    remarks: tuple[str, ...] = ()

    def total_s(self, phase: str | None = None) -> float:
        """Median wall time of the profiled calls used, in `phase`; in both, the sum of their
        medians.
        """
        return sum(
            median(iteration.profiled_s(p) for iteration in self.iterations if iteration.used)
            for p in PHASES
            if phase in (None, p)
        )

    @property
    def overhead(self) -> float:
        """The slowdown by profiling, as a share of the unprofiled time: the median over all pairs
        of calls.
        """
        return (
            median(
                sum(map(iteration.profiled_s, PHASES)) / sum(map(iteration.plain_s, PHASES))
                for iteration in self.iterations
            )
            - 1
        )

    def by_operator(self, phase: str) -> dict[str, float]:
        """Seconds of each operator in `phase`, over all layers."""
        seconds: dict[str, float] = {}
        for part in (part for layer in self.layers for part in layer.parts if part.phase == phase):
            seconds[part.operator] = seconds.get(part.operator, 0.0) + part.seconds
        return seconds

    def to_json(self) -> dict[str, Any]:
        """JSON-ready values of all fields, with the schema number."""
        return {
            "schema": SCHEMA,
            "kind": "profile",
            **dataclasses.asdict(self),
            "case": self.case.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Profile":
        """The profile that `to_json` wrote. Raises SchemaTooNew, or StoreDamaged for anything that
        is not a profile.
        """
        if not isinstance(data, dict) or data.get("kind") != "profile":
            raise StoreDamaged(
                f"this is not a profile; `{program.command()} profile SUITE --only ROW` writes one"
            )
        if data["schema"] > SCHEMA:
            raise SchemaTooNew(
                f"the profile has schema {data['schema']}, this version reads up to "
                f"{SCHEMA}; upgrade swbench"
            )
        try:
            return cls(
                case=case_from_json(data["case"]),
                iterations=tuple(Iteration(**entry) for entry in data["iterations"]),
                layers=tuple(_layer(entry) for entry in data["layers"]),
                roof=Roof(**data["roof"]),
                chosen=data["chosen"],
                environment=data["environment"],
                remarks=tuple(data["remarks"]),
            )
        except (KeyError, TypeError, ValueError) as problem:
            raise StoreDamaged(f"the profile is damaged ({problem}); make it again") from problem


def _layer(data: dict[str, Any]) -> Layer:
    parts, work = (
        tuple(Part(**entry) for entry in data["parts"]),
        tuple(Work(**entry) for entry in data["work"]),
    )
    return Layer(**{**data, "parts": parts, "work": work})
