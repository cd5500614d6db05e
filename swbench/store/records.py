"""Rounds and results as records, and back. A round names its group and cases by their position in
the plan, to be compact.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from swbench.plan import Plan
from swbench.result import COUNTED, STATUSES, Measurement, Result, Round

_NUMBERS = {float, int}
_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Codec:
    """Translates the rounds and results of one plan."""

    def __init__(self, plan: Plan) -> None:
        self._names = tuple(group.name for group in plan.groups)
        self._group = {name: position for position, name in enumerate(self._names)}
        self._keys = tuple(tuple(case.key for case in group.cases) for group in plan.groups)
        self._case = tuple(
            {key: position for position, key in enumerate(keys)} for keys in self._keys
        )

    def keys(self, group: str) -> tuple[str, ...]:
        """The keys of a group's cases, by position."""
        return self._keys[self._group[group]]

    def round_record(self, one: Round) -> dict[str, Any]:
        """A round as a record. Raises ValueError for a group or case that is not in the plan, or a
        sample that is not finite.
        """
        try:
            group = self._group[one.group]
            order = [self._case[group][key] for key in one.order]
        except KeyError as missing:
            raise ValueError(f"{missing} is not in the plan") from None
        metrics = list(
            dict.fromkeys(metric for samples in one.samples.values() for metric in samples)
        )
        samples = [
            [one.samples[key].get(metric) for metric in metrics] if key in one.samples else None
            for key in one.order
        ]
        record = {
            "g": group,
            "r": one.replicate,
            "a": one.attempt,
            "i": one.index,
            "t": round(one.started, 3),
        }
        record |= {"o": order, "m": metrics, "s": samples, "d": dict(one.disturbance)}
        if one.blocks:
            names = list(
                dict.fromkeys(name for readings in one.blocks.values() for name in readings)
            )
            blocks = [
                [one.blocks[key].get(name) for name in names] if key in one.blocks else None
                for key in one.order
            ]
            record |= {"bn": names, "b": blocks}
        return record

    def round(self, record: Mapping[str, Any]) -> Round:
        """The round in a record. Raises ValueError, KeyError, IndexError or TypeError where it is
        none.
        """
        group = _position(record["g"], len(self._names))
        keys = self._keys[group]
        places = record["o"]
        if set(map(type, places)) - {int} or (
            places and not 0 <= min(places) <= max(places) < len(keys)
        ):
            raise ValueError("a position is outside the plan")
        order = tuple(map(keys.__getitem__, places))
        return Round(
            group=self._names[group],
            replicate=_count(record["r"]),
            attempt=_text(record["a"]),
            index=_count(record["i"]),
            order=order,
            samples=_by_case(order, record["m"], record["s"]),
            disturbance=_numbers(dict(record["d"].items())),
            blocks=_by_case(order, record["bn"], record["b"]) if "b" in record else {},
            started=_number(record["t"]),
        )

    def result_record(self, result: Result) -> dict[str, Any]:
        """A result as a record. Raises ValueError for a group or case that is not in the plan."""
        if (
            result.group not in self._group
            or result.case not in self._case[self._group[result.group]]
        ):
            raise ValueError(f"case {result.case} of group {result.group!r} is not in the plan")
        data = result.to_json()
        if not data["also"]:
            del data["also"]
        data["measurements"] = [
            [
                m.metric,
                m.unit,
                [value if math.isfinite(value) else str(value) for value in m.samples],
            ]
            for m in result.measurements
        ]
        return data

    def result(self, record: Mapping[str, Any]) -> Result:
        """The result in a record. Raises ValueError, KeyError or TypeError where it is none."""
        group, case, status = _text(record["group"]), _text(record["case"]), record["status"]
        if case not in self._case[self._group[group]] or status not in STATUSES:
            raise ValueError("its case is not in the plan, or its status unknown")
        measured = tuple(
            Measurement(
                _text(metric),
                _text(unit),
                tuple(_NON_FINITE[v] if isinstance(v, str) else _number(v) for v in samples),
            )
            for metric, unit, samples in record["measurements"]
        )
        return Result(
            case=case,
            group=group,
            replicate=_replicate(record["replicate"]),
            attempt=_text(record["attempt"]),
            status=status,
            detail=_text(record["detail"]),
            measurements=measured,
            chosen={_text(name): _text(value) for name, value in record["chosen"].items()},
            environment=_text(record["environment"]),
            started=_number(record["started"]),
            ended=_number(record["ended"]),
            also=tuple(_text(attempt) for attempt in record.get("also", ())),
        )


def _by_case(
    order: Sequence[str], names: Sequence[Any], rows: Sequence[Any]
) -> dict[str, dict[str, float]]:
    """Values by case and name from a table whose rows are in `order`; a row or a value may be
    missing.
    """
    names, found = [_text(name) for name in names], {}
    for key, values in zip(order, rows, strict=True):
        if values is not None:
            found[key] = _numbers(
                {
                    name: value
                    for name, value in zip(names, values, strict=True)
                    if value is not None
                }
            )
    return found


def _numbers(given: dict[str, Any]) -> dict[str, float]:
    """The same, if all its values are finite numbers; a sum tells that of most at once, though
    finite ones may have an infinite sum.
    """
    values = given.values()
    if not set(map(type, values)) <= _NUMBERS or not math.isfinite(sum(values)):
        for value in values:
            _number(value)
    return given


def _number(value: Any) -> float:
    if type(value) is not float and type(value) is not int:
        raise ValueError("a sample is not a number")
    if not math.isfinite(value):
        raise ValueError("a sample is not finite")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError("a count is not a whole number")
    return value


def _replicate(value: Any) -> int:
    return value if value == COUNTED and type(value) is int else _count(value)


def _position(value: Any, among: int) -> int:
    if _count(value) >= among:
        raise ValueError("a position is outside the plan")
    return value


def _text(value: Any) -> str:
    if type(value) is not str:
        raise ValueError("a name is not text")
    return value
