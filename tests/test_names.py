"""Names are standard terms of PyTorch, numerics and statistics: no identifier, file, heading or
page has a private word in its place. Terms of our own are those of the glossary in docs/design.md.
"""

import ast
import functools
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import dist  # noqa: E402  beside the package

WORDS = {
    "alike": "equal",
    "card": "gpu",
    "cards": "gpus",
    "crew": "rank group",
    "doorway": "acceptor",
    "everybody": "all ranks",
    "exhaustion": "out of memory",
    "meeting": "rendezvous",
    "nobody": "no process",
    "outlook": "ETA",
    "pilot": "run estimate",
    "room": "workspace, free bytes",
    "rooms": "packages",
    "told": "received",
    "whole": "fused, full, complete",
}
"""Words that no name contains, and what to say instead."""

NAMES = {
    "again": "cached, repeated",
    "apart": "separate",
    "ask": "query",
    "asked": "requested",
    "back": "backward",
    "found": "result, matches",
    "kept": "stored, cached",
    "one": "the thing's own name",
    "said": "message",
    "spread": "dispersion",
    "there": "forward",
    "who": "users",
}
"""Words that are no complete name. As part of a name (`fall_back`, `one_round`) they mean what they
say.
"""

PROSE = re.compile(
    r"\b(there and back|both ways|way (back|there)|rooms?|crew|doorway|outlook|exhaustion)\b", re.I
)
"""Words and phrases that README and docs do without. Other `WORDS` mean what they say in a text."""

FILES = {
    *("attempt", "crew", "current", "death", "doorway", "exhaustion", "exported", "factor"),
    *("frame", "garbage", "halves", "kept", "link", "marking", "marks", "measured", "meeting"),
    *("native_whole", "numbers", "operator", "outlook", "pilot", "plain", "raw", "ready"),
    *("recorded", "replay", "roof", "safe", "shapes", "spectral", "spent", "spread", "steady"),
    *("subject", "team", "trust", "vocabulary", "whole", "windows"),
}
"""Names that no file has: a reader had to open the file to learn what is in it."""

ALLOWED = {
    "test_ratios_of_whole_networks_are_those_of_the_runs": "networks, not single layers",
    "test_whole_number_in_a_float_field_stays_an_int": "a whole number is an integer",
}
"""Names that stay, and why. These file names stay too: `norms/diagonal.py` and `norms/recipe.py`,
because pickled modules import the former and hold the `Recipe` of the latter; and
`solvers/spectral_solver.py` and `spectra.py`, because *spectral* (by eigenvalues) and *spectrum*
are the words of numerics, and `--spectrum` is an option.
"""


def tracked(*suffixes: str) -> list[str]:
    return [name for name in dist.tracked() if Path(name).suffix in suffixes]


def python_names(source: str) -> Iterator[str]:
    """What `source` gives a name to: modules, classes, functions, arguments, variables, fields."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias) and node.asname:
            yield node.asname


def c_names(source: str) -> Iterator[str]:
    """Every identifier of `source`, without comments and strings."""
    code = re.sub(r'/\*.*?\*/|//[^\n]*|"(\\.|[^"\\\n])*"', " ", source, flags=re.DOTALL)
    return iter(re.findall(r"[A-Za-z_]\w*", code))


@functools.cache
def names_by_file() -> dict[str, set[str]]:
    """The names in every Python and C file of the repository."""
    readers = dict.fromkeys(tracked(".py"), python_names)
    readers |= dict.fromkeys(tracked(".c", ".h"), c_names)
    return {
        file: set(names((ROOT / file).read_text(encoding="utf-8")))
        for file, names in readers.items()
    }


def words(name: str) -> list[str]:
    """The words of a name, in lower case."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)]


def objection(name: str) -> str:
    """Why `name` is not allowed and what to say instead, or nothing."""
    if name in ALLOWED:
        return ""
    parts = words(name)
    if (complete := "_".join(parts)) in NAMES:
        return f"{name}: say {NAMES[complete]}"
    return "; ".join(f"{name}: say {WORDS[part]}" for part in parts if part in WORDS)


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("found", False),
        ("_found", False),
        ("FOUND", False),
        ("found_sections", True),
        ("WholeRun", False),
        ("workspace", True),
        ("roomy", True),
        ("room_bytes", False),
        ("test_whole_number_in_a_float_field_stays_an_int", True),
    ],
)
def test_objections(name, allowed):
    assert bool(objection(name)) is not allowed


def test_private_words_are_found_in_python_and_c():
    python = (
        "import x as one\ndef f(crew, *there):\n  self.room: int = 1\n  for b in c: (kept := b)"
    )
    assert {"one", "f", "crew", "there", "room", "b", "kept"} == set(python_names(python))
    assert list(c_names('int room; /* whole */ "crew" // told\nback(1)')) == ["int", "room", "back"]


def test_identifiers_are_standard_terms():
    assert len(names_by_file()) > 300
    assert not {
        f"{file}: {problem}"
        for file, names in names_by_file().items()
        for name in names
        if (problem := objection(name))
    }


def test_file_names_are_standard_terms():
    folders = ("swbench", "suites", "benchmarks", "tools", "tests")
    paths = [path for path in map(Path, dist.tracked()) if path.parts[0] in folders]
    assert not {f"{path}: {objection(path.stem)}" for path in paths if objection(path.stem)}
    assert not [path for path in paths if path.suffix in (".py", ".c", ".h") and path.stem in FILES]


def test_headings_are_standard_terms():
    headings = [
        (name, line)
        for name in tracked(".md")
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
        if re.match("#+ ", line)
    ]
    assert len(headings) > 100
    banned = WORDS.keys() - {"whole"}  # whole networks, beside single layers
    assert not [
        heading for heading in headings if banned & set(re.findall(r"[a-z]+", heading[1].lower()))
    ]


def test_exceptions_are_needed():
    assert ALLOWED.keys() <= set().union(*names_by_file().values())


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_pages_use_standard_terms(page):
    assert not PROSE.findall((ROOT / page).read_text("utf-8"))
