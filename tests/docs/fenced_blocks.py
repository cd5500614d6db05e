"""Fenced blocks of the docs, by their info string: ```console run, ```python run, and ```LANGUAGE
file=NAME.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [ROOT / "README.md", *PAGES]
_BLOCK = re.compile(r"^```(?P<language>\w+)(?: +(?P<tag>\S+))?\n(?P<text>.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One block; `tag` is `run`, `file=NAME` or empty."""

    language: str
    tag: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(m["language"], m["tag"] or "", m["text"], text[: m.start()].count("\n") + 1)
        for m in _BLOCK.finditer(text)
    ]
