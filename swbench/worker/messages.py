"""The messages of a worker to its parent, one JSON line each, which the parent checks. A round is
sent as it is stored.
"""

from dataclasses import dataclass

from swbench import codec
from swbench.codec import Count
from swbench.result import Measurement, Round, Status
from swbench.worker.job import Job


@dataclass(frozen=True, kw_only=True)
class Failed:
    """The case with this key has failed and is dropped; `beside` other cases were built at that
    time, and go on.
    """

    case: str
    status: Status
    detail: str
    beside: Count = 0


@dataclass(frozen=True, kw_only=True)
class Warm:
    """The case is warm after `calls` calls; the last took `seconds`."""

    case: str
    calls: Count
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The measurements of a case outside the rounds, and what it chose at run time."""

    case: str
    measurements: tuple[Measurement, ...]
    chosen: dict[str, str]


@dataclass(frozen=True)
class End:
    """The worker has completed its job."""


@dataclass(frozen=True)
class RestartNeeded:
    """The worker ends because a failed case has left it unfit. The cases without a result need a
    fresh worker.
    """


Message = Failed | Warm | Round | Measured | End | RestartNeeded
_KINDS: dict[str, type] = {
    cls.__name__: cls for cls in (Failed, Warm, Round, Measured, End, RestartNeeded)
}


def encode(message: Message) -> bytes:
    """The message as one line. A measurement may be infinite or NaN; a time may not."""
    return codec.encode([type(message).__name__, message]) + b"\n"


def decode(line: bytes, job: Job) -> Message:
    """The message in a line from the worker that runs `job`. Raises ValueError where the line is
    not a valid message of that job.
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
    elif not isinstance(message, End | RestartNeeded) and message.case not in job.by_key:
        raise ValueError("a case that is not in the job")
