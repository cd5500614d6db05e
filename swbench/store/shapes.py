"""Whether data read from a file has the types that a dataclass says: files from elsewhere are not believed."""

import dataclasses
import math
import types
import typing
from functools import cache
from typing import Any

LARGEST = 2**63 - 1
"""JSON's whole numbers have no end, and one of 400 digits is no float."""

_hints = cache(typing.get_type_hints)


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` is what the type `hint` says, all the way down; whole numbers pass as float, what is not finite does not."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(each) == len(value) and all(map(fits, value, each))
    if origin in (dict, list):
        kids = value.items() if isinstance(value, dict) else [(one,) for one in value] if isinstance(value, list) else None
        return kids is not None and isinstance(value, origin) and all(all(map(fits, kid, arguments)) for kid in kids)
    if dataclasses.is_dataclass(hint):
        hints = _hints(hint)
        return type(value) is hint and all(fits(getattr(value, field.name), hints[field.name]) for field in dataclasses.fields(hint))
    if hint is float and type(value) is float:
        return math.isfinite(value)
    if hint in (int, float) and type(value) is int:
        return abs(value) <= LARGEST
    return type(value) is hint or (hint is types.NoneType and value is None)
