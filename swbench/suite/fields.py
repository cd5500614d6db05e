"""Declarative checks of a suite's tables: one `Field` for each key. Every problem is collected with
its key path.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from swbench.errors import near_miss

Problems = list[str]

LONGEST_LIST = 1000
"""Most entries of a list in a suite; a heuristic far above any real suite."""

_ARTICLE = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Field:
    """The allowed values of one key.

    `kind` is bool, int, float, str, or `pair` for [height, width]. `many` makes the value a list of
    those (at least one, no value twice), and `by_device` also accepts a table with such a list for
    each device. Numbers must lie in [`low`, `high`]; numbers and texts must be one of `choices`
    where there are any. `check` takes a text and returns a problem or None. `why` explains the
    bounds in messages.
    """

    kind: Any
    many: bool = False
    by_device: bool = False
    required: bool = False
    default: Any = None
    low: float | None = None
    high: float | None = None
    choices: tuple[Any, ...] = ()
    check: Any = None
    why: str = ""

    def read(self, value: Any, path: str, problems: Problems) -> Any:
        """`value` as Python data (lists become tuples), or the default after adding its problems
        to `problems`.
        """
        before = len(problems)
        if self.by_device and isinstance(value, dict):
            result = self._devices(value, path, problems)
        elif self.many:
            result = self._list(value, path, problems)
        else:
            result = self.read_one(value, path, problems)
        return result if len(problems) == before else self.default

    def _devices(self, value: dict[str, Any], path: str, problems: Problems) -> dict[str, Any]:
        if not value:
            problems.append(f"{path} is an empty table; give it a list for cpu or cuda")
        for name in value:
            if name not in DEVICES:
                problems.append(
                    f"{path}.{name}: no device is called "
                    f"{name!r}.{near_miss(name, DEVICES)} Known: {', '.join(DEVICES)}"
                )
        return {
            name: self._list(entry, f"{path}.{name}", problems) for name, entry in value.items()
        }

    def _list(self, value: Any, path: str, problems: Problems) -> tuple[Any, ...]:
        if not isinstance(value, list):
            problems.append(f"{path} must be a list, not {_value_text(value)}")
            return ()
        if not value:
            problems.append(f"{path} is an empty list; give at least one value")
        if len(value) > LONGEST_LIST:
            problems.append(f"{path} has {len(value)} entries; at most {LONGEST_LIST} are allowed")
            return ()
        entries = [
            self.read_one(entry, f"{path}[{index}]", problems) for index, entry in enumerate(value)
        ]
        for index, entry in enumerate(entries):
            if entry is not None and entry in entries[:index]:
                problems.append(f"{path}[{index}]: {_value_text(entry)} occurs twice")
        return tuple(entries)

    def read_one(self, value: Any, path: str, problems: Problems) -> Any:
        """A single value of this kind, or None after adding to `problems`."""
        if self.kind == "pair":
            if not isinstance(value, list) or len(value) != 2:
                problems.append(
                    f"{path} must be [height, width] in pixels, not {_value_text(value)}"
                )
                return None
            side = replace(self, kind=int, many=False)
            pair = tuple(
                side.read_one(entry, f"{path}[{index}]", problems)
                for index, entry in enumerate(value)
            )
            return None if None in pair else pair
        if self.kind is float and type(value) is int:
            value = float(value) if abs(value) < 2**53 else math.inf
        if type(value) is not self.kind:
            problems.append(f"{path} must be {_ARTICLE[self.kind]}, not {_value_text(value)}")
            return None
        problem = (
            self._bounds(value)
            if self.kind in (int, float)
            else self._text(value)
            if self.kind is str
            else None
        )
        if problem:
            problems.append(f"{path}{problem}")
            return None
        return value

    def _bounds(self, value: float) -> str | None:
        if self.choices and value not in self.choices:
            why = f" ({self.why})" if self.why else ""
            return f" must be {' or '.join(map(str, self.choices))}{why}, not {_value_text(value)}"
        if not math.isfinite(value):
            return f" must be a finite number, not {value}"
        why = f" ({self.why})" if self.why else ""
        if self.low is not None and value < self.low:
            return f" must be at least {_bound_text(self.low)}{why}, not {_value_text(value)}"
        if self.high is not None and value > self.high:
            return f" must be at most {_bound_text(self.high)}{why}, not {_value_text(value)}"
        return None

    def _text(self, value: str) -> str | None:
        if len(value) > 200 or not value.isprintable():
            return " must be at most 200 printable characters"
        if self.choices and value not in self.choices:
            return (
                f": {value!r} is not known.{near_miss(value, self.choices)} Known: "
                f"{', '.join(self.choices)}"
            )
        problem = self.check(value) if self.check else None
        return f": {problem}" if problem else None


DEVICES = ("cpu", "cuda")


def read_table(
    table: Any, fields: Mapping[str, Field], path: str, problems: Problems
) -> dict[str, Any]:
    """Every key of `fields`, from `table` or its default; unknown and missing keys are added to
    `problems`.
    """
    if not isinstance(table, dict):
        problems.append(f"{path} must be a table, not {_value_text(table)}")
        return {name: field.default for name, field in fields.items()}
    prefix = f"{path}." if path else ""
    for name in table:
        if name not in fields:
            problems.append(
                f"{prefix}{name}: no such key.{near_miss(name[:100], fields)} Known: "
                f"{', '.join(fields)}"
            )
    for name, field in fields.items():
        if field.required and name not in table:
            problems.append(f"{prefix}{name} is missing")
    return {
        name: field.read(table[name], prefix + name, problems) if name in table else field.default
        for name, field in fields.items()
    }


def _bound_text(bound: float) -> str:
    return f"{bound:,}" if isinstance(bound, int) else f"{bound:g}"


def _value_text(value: Any) -> str:
    if isinstance(value, dict | list | tuple):
        return (
            "a table"
            if isinstance(value, dict)
            else f"a list of {len(value)}"
            if len(value) > 4 or isinstance(value, list)
            else repr(value)
        )
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**30:
        return "a number of more than 30 digits"
    return repr(value)[:80]
