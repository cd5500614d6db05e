"""Whether data read from a file has the types that a dataclass says: files from elsewhere are not
believed.
"""

import dataclasses
import math
import types
import typing
from collections.abc import Callable
from functools import cache
from typing import Any

LARGEST = 2**63 - 1
"""JSON's whole numbers have no end, and one of 400 digits is no float."""


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` is what the type `hint` says, all the way down; whole numbers pass as float,
    what is not finite does not.
    """
    return _check(hint)(value)


@cache
def _check(hint: Any) -> Callable[[Any], bool]:
    """The check of one type, made once: a plan of ten thousand cases asks a quarter of a million
    times.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda value: True
    if origin in (typing.Union, types.UnionType):
        choices = tuple(map(_check, arguments))
        return lambda value: any(one(value) for one in choices)
    if origin is tuple and arguments[-1] is Ellipsis:
        each = _check(arguments[0])
        return lambda value: isinstance(value, tuple) and all(map(each, value))
    if origin is tuple:
        places = tuple(map(_check, arguments))
        return lambda value: (
            isinstance(value, tuple)
            and len(value) == len(places)
            and all(one(kid) for one, kid in zip(places, value, strict=True))
        )
    if origin is dict:
        name, kid = map(_check, arguments)
        return lambda value: (
            isinstance(value, dict) and all(map(name, value)) and all(map(kid, value.values()))
        )
    if origin is list:
        each = _check(arguments[0])
        return lambda value: isinstance(value, list) and all(map(each, value))
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        fields = tuple(
            (field.name, _check(hints[field.name])) for field in dataclasses.fields(hint)
        )
        return lambda value: (
            type(value) is hint and all(one(getattr(value, field)) for field, one in fields)
        )
    if hint is float:
        return lambda value: (
            math.isfinite(value)
            if type(value) is float
            else type(value) is int and abs(value) <= LARGEST
        )
    if hint is int:
        return lambda value: type(value) is int and abs(value) <= LARGEST
    return lambda value: type(value) is hint
