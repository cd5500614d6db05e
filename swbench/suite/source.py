"""Reads a suite: finds the file, limits its size, parses it and checks all of it."""

import codecs
import tomllib
from dataclasses import dataclass, replace
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from swbench import norms, shipped
from swbench.errors import SuiteError, UnknownName, near_miss, printable
from swbench.suite import schema
from swbench.suite.fields import Field, Problems, read_table

LARGEST_BYTES = 200_000
"""Largest suite file in bytes: a suite is a page of text."""

DEEPEST = 32
"""Deepest nesting of brackets: real suites need three levels, and the parser recurses."""

MOST_ROWS = 1000

TABLES = ("network", "rows", "settings", "solvers", "stability", "full", "protocol")
"""The tables of all kinds of suites."""


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A checked suite. `text` is the file as it was read; `base`, `full`, `rows`, `settings` and
    `protocol` hold checked values by key.
    """

    name: str
    title: str
    kind: str
    paper: str | None
    metrics: tuple[str, ...] | None
    base: dict[str, Any]
    full: dict[str, Any]
    rows: tuple[dict[str, Any], ...]
    protocol: dict[str, Any]
    text: str
    settings: tuple[dict[str, Any], ...] = ()


OWN = Path("suites")
"""The folder in the current directory with the user's suites, which are known by name."""


def folder() -> Traversable:
    """The folder of the suites that come with swbench."""
    return shipped.folder("suites")


def names() -> tuple[str, ...]:
    """The suites that come with swbench, and those in `OWN`."""
    return tuple(sorted(_listed(folder()) | _listed(OWN)))


def _listed(place: Traversable) -> set[str]:
    try:
        return {
            entry.name.removesuffix(".toml")
            for entry in place.iterdir()
            if entry.name.endswith(".toml")
        }
    except OSError:  # there is no such folder, or nobody may read it
        return set()


def load(name_or_path: str | Path) -> Suite:
    """The suite of that name, or in that file.

    Raises UnknownName for an unknown name, and SuiteError, with all problems at once, for an
    invalid file and for a name that two different suites have.
    """
    given = str(name_or_path)
    if "/" in given or given.endswith(".toml") or isinstance(name_or_path, Path):
        path = Path(given)
    elif given in names():
        path = _find_by_name(given)
    else:
        raise UnknownName("suite", given, names())
    return parse(_text(path), Path(path.name).stem, str(path))


def _find_by_name(name: str) -> Traversable:
    """The file of the suite called `name`. Raises SuiteError where a suite of the user differs from
    one of the same name that comes with swbench.
    """
    own_file, shipped_file = OWN / f"{name}.toml", folder().joinpath(f"{name}.toml")
    if not shipped_file.is_file():
        return own_file
    if own_file.is_file() and own_file.read_bytes() != shipped_file.read_bytes():
        raise SuiteError(
            str(own_file),
            [
                "it has the name of a suite that comes with swbench but differs from it; give the "
                "path to measure this one, or rename it to measure the other"
            ],
        )
    return shipped_file


def parse(text: str, name: str, source: str) -> Suite:
    """The suite in `text`. Raises SuiteError with every problem it has; `source` says in messages
    where the text is from.
    """
    data = _toml(text, source)
    problems: Problems = []
    sections = {key: data.pop(key) for key in TABLES if key in data}
    _unknown_tables(data, problems)
    top = read_table(data, schema.TOP, "", problems)
    if isinstance(top["schema"], int) and top["schema"] > schema.VERSION:
        raise SuiteError(
            source,
            [
                (
                    f"schema is {top['schema']}, and this swbench reads up to "
                    f"{schema.VERSION}; install a newer swbench"
                )
            ],
        )
    protocol = read_table(sections.get("protocol", {}), schema.PROTOCOL, "protocol", problems)
    settings = _settings(sections, problems) if top["kind"] == "network" else ()
    base, full, rows = (
        _network(sections, problems)
        if top["kind"] == "network"
        else _without_rows(top["kind"], sections, problems)
        if top["kind"]
        else ({}, {}, ())
    )
    if problems:
        raise SuiteError(source, problems)
    return Suite(
        name=name,
        title=top["title"] or name,
        kind=top["kind"],
        paper=top["paper"],
        metrics=top["metrics"],
        base=base,
        full=full,
        rows=rows,
        protocol={key: value for key, value in protocol.items() if value is not None},
        text=text,
        settings=settings,
    )


def _network(
    sections: dict[str, Any], problems: Problems
) -> tuple[dict[str, Any], dict[str, Any], tuple[dict[str, Any], ...]]:
    for name in ("solvers", "stability"):
        if name in sections:
            problems.append(f"{name}: a suite of kind 'network' has no such table")
    for name in ("network", "rows"):
        if name not in sections:
            problems.append(f"{name} is missing: a suite of kind 'network' needs it")
    base = (
        read_table(sections["network"], schema.network_keys(), "network", problems)
        if "network" in sections
        else {}
    )
    listed = sections.get("rows", [])
    if (
        not isinstance(listed, list)
        or len(listed) > MOST_ROWS
        or ("rows" in sections and not listed)
    ):
        problems.append(f"rows must be [[rows]] tables, at least one and at most {MOST_ROWS}")
        return base, {}, ()
    full = _full(sections, schema.full_keys(), problems)
    rows = []
    for index, entry in enumerate(listed):
        before = len(problems)
        row = read_table(entry, schema.row_keys(), f"rows[{index}]", problems)
        if len(problems) == before:
            _row(row, base, f"rows[{index}]", problems)
        rows.append(row)
    return base, full, tuple(rows)


def _settings(sections: dict[str, Any], problems: Problems) -> tuple[dict[str, Any], ...]:
    """The `[[settings]]` of a network suite, each without what it leaves to `[network]`."""
    listed = sections.get("settings", [])
    if not isinstance(listed, list) or len(listed) > MOST_ROWS:
        problems.append(f"settings must be [[settings]] tables, at most {MOST_ROWS}")
        return ()
    settings = [
        read_table(entry, schema.setting_keys(), f"settings[{index}]", problems)
        for index, entry in enumerate(listed)
    ]
    return tuple(
        {key: value for key, value in setting.items() if value is not None} for setting in settings
    )


def _full(sections: dict[str, Any], keys: dict[str, Field], problems: Problems) -> dict[str, Any]:
    """The values of `[full]`, which override those of the kind's own table."""
    fields = {name: replace(field, required=False, default=None) for name, field in keys.items()}
    full = read_table(sections.get("full", {}), fields, "full", problems)
    return {key: value for key, value in full.items() if value is not None}


def _row(row: dict[str, Any], base: dict[str, Any], path: str, problems: Problems) -> None:
    """Check the keys of a row against each other."""
    plain = row["norm"] in norms.WITHOUT_SOLVER
    if plain and row["solver"]:
        problems.append(f"{path}.solver: {row['norm']} whitens nothing, so it has no solver")
    if row["norm"] == "bn" and row["layers"]:
        problems.append(
            f"{path}.layers: batch normalisation is at every site that is not "
            "replaced; leave layers out"
        )
    if row["norm"] != "bn" and not row["layers"]:
        problems.append(
            f"{path}.layers must be at least 1: it says how many sites carry {row['norm']}"
        )
    elif row["norm"] != "bn" and (model := row["model"] or base.get("model")):
        problem = schema.placement_problem(
            model,
            row["layers"],
            1 if plain else row["group"] or base["group"],
            row["placement"] or base["placement"],
        )
        if problem:
            problems.append(f"{path}: {problem}")


def _without_rows(
    kind: str, sections: dict[str, Any], problems: Problems
) -> tuple[dict[str, Any], dict[str, Any], tuple[dict[str, Any], ...]]:
    """The table of a `solvers` or `stability` suite, and `[full]`, which takes the same keys."""
    keys = schema.solver_keys() if kind == "solvers" else schema.stability_keys()
    for name in ("network", "rows", "settings", "solvers", "stability"):
        if name in sections and name != kind:
            problems.append(f"{name}: a suite of kind {kind!r} has no such table")
    if kind not in sections:
        problems.append(f"{kind} is missing: a suite of kind {kind!r} needs it")
        return {}, {}, ()
    base = read_table(sections[kind], keys, kind, problems)
    return base, _full(sections, keys, problems), ()


def _unknown_tables(data: dict[str, Any], problems: Problems) -> None:
    """Report tables with an unknown name as tables, with the nearest known name."""
    known = TABLES
    for name in [
        name
        for name, value in data.items()
        if name not in schema.TOP and isinstance(value, dict | list)
    ]:
        problems.append(
            f"{name}: no such table.{near_miss(name[:100], known)} Known: {', '.join(known)}"
        )
        del data[name]


def _text(path: Traversable) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_BYTES + 1)
    except OSError as problem:
        raise SuiteError(str(path), [f"cannot be read: {problem.strerror}"]) from None
    if len(raw) > LARGEST_BYTES:
        raise SuiteError(
            str(path), [f"larger than {LARGEST_BYTES:,} bytes; a suite is a page of text"]
        )
    raw = raw.removeprefix(codecs.BOM_UTF8)  # editors on Windows begin a file with it
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as problem:
        line = raw[: problem.start].count(b"\n") + 1
        raise SuiteError(
            str(path), [f"line {line} is not UTF-8 (byte {raw[problem.start]:#04x})"]
        ) from None


def _toml(text: str, source: str) -> dict[str, Any]:
    if _depth(text) > DEEPEST:
        raise SuiteError(source, [f"brackets are nested more than {DEEPEST} deep"])
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as problem:
        raise SuiteError(source, [f"not TOML: {printable(problem)}"]) from None
    except ValueError:  # Python converts no whole number of more than 4300 digits
        raise SuiteError(
            source, ["a number has more than 4300 digits, or a date is invalid"]
        ) from None
    except RecursionError:
        raise SuiteError(source, ["nested too deep"]) from None


def _depth(text: str) -> int:
    """An upper bound on how deep brackets nest in any one line group, or dots in any key; brackets
    in texts count too.
    """
    depth = deepest = 0
    for character in text:
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth = max(0, depth - 1)
    return max(
        deepest, max((line.partition("=")[0].count(".") for line in text.splitlines()), default=0)
    )
