"""The result of one check of the doctor."""

from dataclasses import dataclass

OK, WARN, BAD = "ok", "warn", "bad"
STATUSES = (OK, WARN, BAD)


@dataclass(frozen=True)
class Check:
    """The finding of a check. `status` is `ok`, `warn` (timings get noisier) or `bad` (timings
    would mislead, or are impossible); `fix` is empty where there is nothing to do.
    """

    name: str
    status: str
    finding: str
    fix: str = ""
