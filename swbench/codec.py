"""JSON of dataclasses, by the names of their fields, for the messages between parent and worker and
for stored lines. Reading checks every value against the type of its field.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal, NewType

Count = NewType("Count", int)
"""A whole number that is not negative."""

AnyFloat = NewType("AnyFloat", float)
"""A float that may also be infinite or NaN, which JSON can express only as text."""

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}

LARGEST = 2**63 - 1
"""Largest accepted whole number: JSON's are unlimited, and one of 400 digits is no float."""


def any_float(value: float) -> float | str:
    """An `AnyFloat` as JSON can hold it."""
    return value if math.isfinite(value) else str(value)


def _fields(value: Any) -> Any:
    return value.to_json() if hasattr(value, "to_json") else vars(value)


_ENCODE = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_fields
).encode


def encode(value: Any) -> bytes:
    """`value` as JSON in one line, without a line end: a dataclass as its `to_json` says, or as an
    object of its fields. Raises ValueError for a float that is not finite.
    """
    return _ENCODE(value).encode()


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


_DECODE = json.JSONDecoder(parse_constant=_refuse).decode


def parse(text: bytes) -> Any:
    """The value in JSON text, not checked any further. Raises ValueError."""
    try:
        return _DECODE(text.decode())
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def read(value: Any, hint: Any) -> Any:
    """A parsed `value` as the type `hint`, checked recursively. Raises ValueError, which names the
    field.

    Floats must be finite and may be whole numbers, except `AnyFloat`; a `Count` must not be
    negative. A dataclass is an object without unknown fields, or a list with the values of its
    fields in order. A member of a union of dataclasses is chosen by its `kind`.
    """
    return _reader(hint)(value)


@cache
def _reader(hint: Any) -> Callable[[Any], Any]:
    """The function that reads one type, cached: a plan of ten thousand cases needs it a quarter of
    a million times.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _READERS:
        return _READERS[hint]
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        fields = {field.name: _reader(hints[field.name]) for field in dataclasses.fields(hint)}
        return partial(_dataclass, hint, fields)
    if origin is Literal:
        return partial(_choice, arguments)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments:
            (read_member,) = (_reader(hint) for hint in arguments if hint is not type(None))
            return lambda value: None if value is None else read_member(value)
        return partial(_kind, {member.kind: _reader(member) for member in arguments})
    if origin is dict:
        return partial(_dict, _reader(arguments[1]))
    if origin is tuple and arguments[-1] is not Ellipsis:
        return partial(_row, tuple(map(_reader, arguments)))
    return partial(_list, origin, _reader(arguments[0]))


def _type_error(value: Any, expected: str) -> ValueError:
    shown = repr(value) if type(value) in (str, float, bool) else f"a {type(value).__name__}"
    return ValueError(f"{shown[:60]} is not {expected}")


def _exact_type(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise _type_error(value, f"of type {kind.__name__}")
    return value


def _as_list(value: Any) -> Sequence[Any]:
    """`value` if it is a list, or a tuple (from `to_json`, before it becomes text)."""
    if type(value) is not list and type(value) is not tuple:
        raise _type_error(value, "a list")
    return value


def _integer(value: Any) -> int:
    if type(value) is not int or abs(value) > LARGEST:
        raise _type_error(value, "a whole number")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise _type_error(value, "a count")
    return value


def _float(value: Any) -> float:
    if type(value) is float and math.isfinite(value):
        return value
    if type(value) is int and abs(value) <= LARGEST:
        return value
    raise _type_error(value, "a finite number")


def _any_float(value: Any) -> float:
    return _NON_FINITE[value] if type(value) is str and value in _NON_FINITE else _float(value)


def _finite(numbers: Collection[Any]) -> bool:
    """Whether all are finite floats, by their sum: fast, but False where finite values overflow."""
    return set(map(type, numbers)) == {float} and math.isfinite(sum(numbers))


def _floats_by_name(value: Any) -> dict[str, float]:
    numbers = _exact_type(dict, value).values()
    if not _finite(numbers):
        for number in numbers:
            _float(number)
    return value


def _any_floats(value: Any) -> tuple[float, ...]:
    return tuple(value if _finite(_as_list(value)) else map(_any_float, value))


def _dict(read_item: Callable[[Any], Any], value: Any) -> dict[str, Any]:
    return {name: read_item(item) for name, item in _exact_type(dict, value).items()}


def _list(make: Callable[[Any], Any], read_item: Callable[[Any], Any], value: Any) -> Any:
    return make([read_item(item) for item in _as_list(value)])


def _row(readers: Sequence[Callable[[Any], Any]], value: Any) -> tuple[Any, ...]:
    return tuple(
        [read_item(item) for read_item, item in zip(readers, _as_list(value), strict=True)]
    )


def _choice(choices: Sequence[str], value: Any) -> str:
    if value not in choices:
        raise _type_error(value, f"one of {', '.join(choices)}")
    return value


def _kind(readers: Mapping[str, Callable[[Any], Any]], value: Any) -> Any:
    fields = dict(_exact_type(dict, value))
    return readers[_choice(tuple(readers), fields.pop("kind", None))](fields)


def _dataclass(cls: type, readers: Mapping[str, Callable[[Any], Any]], value: Any) -> Any:
    try:
        if type(value) is list or type(value) is tuple:
            return cls(
                *[
                    read_field(item)
                    for read_field, item in zip(readers.values(), value, strict=True)
                ]
            )
        return cls(**{name: readers[name](item) for name, item in _exact_type(dict, value).items()})
    except KeyError as unknown:
        raise ValueError(f"a {cls.__name__} has no field {unknown}") from None
    except TypeError as problem:  # a field without a default is missing
        raise ValueError(str(problem)) from None
    except ValueError as problem:
        named = dict(value if type(value) is dict else zip(readers, value, strict=False))
        raise ValueError(f"{_failing_field(readers, named)}{problem}") from None


def _failing_field(readers: Mapping[str, Callable[[Any], Any]], fields: Mapping[str, Any]) -> str:
    """The name of the field that cannot be read."""
    for name, item in fields.items():
        try:
            readers[name](item)
        except ValueError:
            return f"{name}: "
    return ""


_READERS: dict[Any, Callable[[Any], Any]] = {
    Any: lambda value: value,
    str: partial(_exact_type, str),
    bool: partial(_exact_type, bool),
    int: _integer,
    Count: _count,
    float: _float,
    AnyFloat: _any_float,
    dict[str, float]: _floats_by_name,
    tuple[AnyFloat, ...]: _any_floats,
}
