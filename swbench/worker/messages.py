"""What a worker tells its parent, one JSON line each; the parent believes none of it unchecked."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any

from swbench.result import STATUSES, Measurement


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The case at this position of the job cannot go on; the others do, of which so many were held
    ready beside it.
    """

    case: int
    status: str
    detail: str
    beside: int = 0


@dataclass(frozen=True, kw_only=True)
class Warm:
    """The case is warm after so many calls, the last of which took so many seconds."""

    case: int
    calls: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class RoundTaken:
    """One round: positions in the order they ran, and per position (as text, JSON's keys) metric ->
    seconds, and readings around its block of GPU timing.
    """

    index: int
    order: tuple[int, ...]
    samples: dict[str, dict[str, float]]
    disturbance: dict[str, float]
    started: float
    blocks: dict[str, dict[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a case measured outside the rounds: (metric, unit, samples) each, and what it chose at
    run time.
    """

    case: int
    measurements: tuple[tuple[str, str, tuple[float, ...]], ...]
    chosen: dict[str, str]

    def result_measurements(self) -> tuple[Measurement, ...]:
        """As the result keeps them."""
        return tuple(
            Measurement(metric, unit, tuple(samples)) for metric, unit, samples in self.measurements
        )


@dataclass(frozen=True)
class End:
    """The worker did all it was asked to."""


@dataclass(frozen=True)
class Again:
    """The worker ends because a case that failed leaves it unfit; the cases that have no result
    need a fresh one.
    """


Message = Failed | Warm | RoundTaken | Measured | End | Again
_KINDS: dict[str, type] = {
    cls.__name__: cls for cls in (Failed, Warm, RoundTaken, Measured, End, Again)
}


def encode(message: Message) -> bytes:
    """One line. A measurement may be infinite or not a number; a time may not."""
    return (
        json.dumps([type(message).__name__, dataclasses.asdict(message)], separators=(",", ":"))
        + "\n"
    ).encode()


def decode(line: bytes, cases: int) -> Message:
    """The message in a line of a worker that has `cases` cases. Raises ValueError for anything that
    is none.
    """
    try:
        kind, fields = json.loads(line)
        message = _KINDS[kind](**fields)
        _check(message, cases)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise ValueError(f"no message ({type(problem).__name__}: {problem})") from None
    return (
        dataclasses.replace(message, order=tuple(message.order))
        if isinstance(message, RoundTaken)
        else message
    )


def _check(message: Any, cases: int) -> None:
    if isinstance(message, RoundTaken):
        positions = [*message.order, *map(int, message.samples), *map(int, message.blocks)]
        times = [
            value
            for found in (*message.samples.values(), *message.blocks.values())
            for value in found.values()
        ]
        numbers = [*times, *message.disturbance.values(), message.started, message.index]
    else:
        positions = [] if isinstance(message, End | Again) else [message.case]
        numbers = (
            [message.seconds, message.calls]
            if isinstance(message, Warm)
            else [message.beside]
            if isinstance(message, Failed)
            else []
        )
    if any(type(position) is not int or not 0 <= position < cases for position in positions):
        raise ValueError("a case that is not in the job")
    if any(not math.isfinite(number) for number in numbers):
        raise ValueError("a number that is not finite")
    if isinstance(message, Failed) and (
        message.status not in STATUSES or type(message.detail) is not str
    ):
        raise ValueError("a status that there is not")
    if isinstance(message, Measured):
        for measurement in message.result_measurements():
            if (
                type(measurement.metric) is not str
                or type(measurement.unit) is not str
                or not all(isinstance(s, float | int) for s in measurement.samples)
            ):
                raise ValueError("a measurement that is none")
        if not all(
            type(name) is str and type(value) is str for name, value in message.chosen.items()
        ):
            raise ValueError("a choice that is not text")
