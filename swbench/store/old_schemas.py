"""Converts lines of schemas 1 and 2 to the current fields. Cells are equal in all schemas. A round
named its fields by one letter and its group and cases by their positions in the plan, and held its
values in tables with a row for each case, in its order.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Groups = Sequence[tuple[str, Sequence[str]]]
"""The groups of a plan: the name of each, and the keys of its cases."""


def round_fields(record: Mapping[str, Any], groups: Groups) -> Mapping[str, Any]:
    """The fields of a round in a record of any schema. Only positions are checked. Raises
    ValueError, KeyError, IndexError, TypeError or AttributeError for a record that is no round.
    """
    if "g" not in record:
        return record
    group, keys = _at(groups, record["g"])
    order = [_at(keys, position) for position in record["o"]]
    return {
        "group": group,
        "replicate": record["r"],
        "attempt": record["a"],
        "index": record["i"],
        "order": order,
        "samples": _by_case(order, record["m"], record["s"]),
        "disturbance": record["d"],
        "blocks": _by_case(order, record["bn"], record["b"]) if "b" in record else {},
        "started": record["t"],
    }


def _at(items: Sequence[Any], position: Any) -> Any:
    if type(position) is not int or position < 0:
        raise ValueError("a position is outside the plan")
    return items[position]


def _by_case(
    order: Sequence[str], names: Sequence[str], rows: Sequence[Any]
) -> dict[str, dict[str, Any]]:
    """Values by case and name; a row or a value may be missing."""
    return {
        key: {name: value for name, value in zip(names, values, strict=True) if value is not None}
        for key, values in zip(order, rows, strict=True)
        if values is not None
    }
