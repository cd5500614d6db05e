"""What one check of the doctor says."""

from dataclasses import dataclass

OK, WARN, BAD = "ok", "warn", "bad"
STATUSES = (OK, WARN, BAD)


@dataclass(frozen=True)
class Check:
    """`status` is `ok`, `warn` (timings get noisier) or `bad` (they would mislead, or cannot be
    taken); `fix` is empty where there is nothing to do.
    """

    name: str
    status: str
    found: str
    fix: str = ""
