"""What a worker tells its parent, one JSON line each; the parent believes none of it unchecked.
Rounds are told as they are stored.
"""

from dataclasses import dataclass

from swbench import codec
from swbench.codec import Count
from swbench.result import Measurement, Round, Status
from swbench.worker.job import Job


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The case with this key cannot go on; the others do, of which so many were held ready beside
    it.
    """

    case: str
    status: Status
    detail: str
    beside: Count = 0


@dataclass(frozen=True, kw_only=True)
class Warm:
    """The case is warm after so many calls, the last of which took so many seconds."""

    case: str
    calls: Count
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a case measured outside the rounds, and what it chose at run time."""

    case: str
    measurements: tuple[Measurement, ...]
    chosen: dict[str, str]


@dataclass(frozen=True)
class End:
    """The worker did all it was asked to."""


@dataclass(frozen=True)
class Again:
    """The worker ends because a case that failed leaves it unfit; the cases that have no result
    need a fresh one.
    """


Message = Failed | Warm | Round | Measured | End | Again
_KINDS: dict[str, type] = {cls.__name__: cls for cls in (Failed, Warm, Round, Measured, End, Again)}


def encode(message: Message) -> bytes:
    """One line. A measurement may be infinite or not a number; a time may not."""
    return codec.encode([type(message).__name__, message]) + b"\n"


def decode(line: bytes, job: Job) -> Message:
    """The message in a line of the worker that does `job`. Raises ValueError for anything that is
    none.
    """
    try:
        kind, fields = codec.parse(line)
        message = codec.read(fields, _KINDS[kind])
        _check(message, job)
    except (ValueError, KeyError, TypeError) as problem:
        raise ValueError(f"no message ({type(problem).__name__}: {problem})") from None
    return message


def _check(message: Message, job: Job) -> None:
    if isinstance(message, Round):
        message.check(job.by_key.keys())
        if (message.group, message.replicate, message.attempt) != (
            job.group,
            job.replicate,
            job.attempt,
        ):
            raise ValueError("a round of another job")
    elif not isinstance(message, End | Again) and message.case not in job.by_key:
        raise ValueError("a case that is not in the job")
