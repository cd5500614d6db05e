"""The codec: values round-trip, and a value of another type is refused by its field."""

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from swbench import codec
from swbench.case import AnyCase, SolverCase
from swbench.codec import AnyFloat, Count
from swbench.result import Measurement

CASE = SolverCase(solver="eigh", batch=4)


@dataclass(frozen=True, kw_only=True)
class Inner:
    kind_of: Literal["a", "b"]
    pair: tuple[int, int] = (0, 0)


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: tuple[Inner, ...]
    times: dict[str, float]
    limit: float | None = None
    ready: bool = False


OUTER = Outer(name="ä", inner=(Inner(kind_of="b", pair=(1, -2)),), times={"x": 1.5}, limit=2.0)


def test_encode_and_read_round_trip():
    assert codec.read(codec.parse(codec.encode(OUTER)), Outer) == OUTER
    assert codec.read(codec.parse(codec.encode(CASE)), AnyCase) == CASE
    assert codec.read({"name": "n", "inner": [], "times": {}}, Outer).limit is None


def test_whole_number_in_a_float_field_stays_an_int():
    values = codec.read({"x": 3, "y": 0.5}, dict[str, float])
    assert values == {"x": 3, "y": 0.5}
    assert type(values["x"]) is int


def test_infinities_are_text_in_measurements_and_refused_elsewhere():
    measurement = Measurement("error", "1", (math.inf, -math.inf, 1.0))
    text = codec.encode(measurement)
    assert json.loads(text) == ["error", "1", ["inf", "-inf", 1.0]]
    assert codec.read(codec.parse(text), Measurement) == measurement
    for value in ("inf", math.inf, math.nan):
        with pytest.raises(ValueError, match="is not a finite number"):
            codec.read(value, float)
    with pytest.raises(ValueError, match="not JSON compliant"):
        codec.encode({"x": math.inf})
    for text in (b"NaN", b"[Infinity]"):
        with pytest.raises(ValueError, match="is not JSON"):
            codec.parse(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "name: a int is not of type str"),
        ({"ready": 1}, "ready: a int is not of type bool"),
        ({"limit": "x"}, "limit: 'x' is not a finite number"),
        ({"limit": True}, "limit: True is not a finite number"),
        ({"times": {"x": 10**400}}, "times: a int is not a finite number"),
        ({"times": []}, "times: a list is not of type dict"),
        ({"inner": {}}, "inner: a dict is not a list"),
        ({"inner": [{"kind_of": "c"}]}, "inner: kind_of: 'c' is not one of a, b"),
        ({"inner": [{}]}, "inner: .*missing 1 required keyword-only argument: 'kind_of'"),
        ({"inner": [{"kind_of": "a", "pair": [1]}]}, "inner: pair: .*shorter"),
        ({"inner": [{"kind_of": "a", "pair": [1, 2.0]}]}, "inner: pair: 2.0 is not a whole number"),
        ({"colour": "red"}, "an? Outer has no field 'colour'"),
    ],
)
def test_wrong_type_is_refused_with_its_field(change, message):
    fields = codec.parse(codec.encode(OUTER)) | change
    with pytest.raises(ValueError, match=message):
        codec.read(fields, Outer)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (-1, Count),
        (1.0, Count),
        (True, int),
        (2**63, int),
        ("odd", AnyFloat),
        (["m", "1"], Measurement),
        (["m", "1", [1.0], 2], Measurement),
        (["a"], Inner),
        ({"kind": "none"}, AnyCase),
        ({"kind": []}, AnyCase),
        ({}, AnyCase),
        (None, dict[str, Any]),
    ],
)
def test_invalid_values_are_refused(value, hint):
    with pytest.raises(ValueError, match=r"is not|no field|argument"):
        codec.read(value, hint)
