"""The page that says how each step ended, and what is proven and what is not."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gpu_session.claims import Claim
from gpu_session.running import STOPPED


class Ended(NamedTuple):
    """How a step ended: its exit code (None: it was left out) and the seconds it took, or why it
    was left out.
    """

    name: str
    code: int | None
    seconds: float
    why: str = ""

    def __str__(self) -> str:
        if self.code is None:
            return f"{self.name:20s} left out  {self.why}"
        ending = "stopped" if self.code == STOPPED else f"exit {self.code}"
        return f"{self.name:20s} {ending:9s} {self.seconds:6.1f} s"


def page(ended: Sequence[Ended], lacking: Sequence[str], claims: Sequence[Claim]) -> str:
    """The summary as text: packages, steps, claims."""
    lines = ["# Packages", *lacking, "", "# Steps", *map(str, ended), "", "# Claims"]
    lines += [f"{verdict:10s} {claim}: {figure}" for verdict, claim, figure in claims]
    return "\n".join(lines) + "\n"


def write(results: Path, text: str) -> None:
    """Replace the summary in `results`, in one go."""
    new = results / ".summary.txt"
    new.write_text(text, encoding="utf-8")
    new.replace(results / "summary.txt")
