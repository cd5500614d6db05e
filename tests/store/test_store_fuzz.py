"""Reading any content of a results folder ends in a run or in one message."""

import json

import pytest
import runs
from fuzzing import cases, promptly
from hypothesis import given
from hypothesis import strategies as st

from swbench import store
from swbench.errors import StoreError
from swbench.store import checked_jsonl

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**400)
    | st.floats()
    | st.text(max_size=8),
    lambda kids: st.lists(kids, max_size=4) | st.dictionaries(st.text(max_size=4), kids),
)
CASES = cases(of=4)


class Originals(dict):
    def __repr__(self):
        return "originals"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    plan = runs.plan()
    with store.RunWriter.create(
        tmp_path_factory.mktemp("runs"), plan, runs.ENVIRONMENT, "c"
    ) as writer:
        runs.fill(writer, plan)
        runs.fill(writer, plan, group=1)
    return writer.path, Originals(
        (name, (writer.path / name).read_bytes())
        for name in ("run.json", "environment.json", "rounds.jsonl", "cells.jsonl")
    )


def read(written, name, content):
    """Read the run with one file replaced; only a StoreError may come of it."""
    path, originals = written
    for other, original in originals.items():
        (path / other).write_bytes(content if other == name else original)
    for salvage in (False, True):
        try:
            with promptly():
                stored = store.load(path, salvage=salvage)
        except StoreError as problem:
            assert str(problem).isprintable()  # noqa: PT017
        else:
            assert len(stored.results) <= 6
    store.runs(path.parent)


@CASES
@given(
    name=st.sampled_from(["run.json", "environment.json", "rounds.jsonl", "cells.jsonl"]),
    content=st.binary(max_size=200),
)
def test_any_bytes_load_or_raise_a_store_error(written, name, content):
    read(written, name, content)


@CASES
@given(name=st.sampled_from(["rounds.jsonl", "cells.jsonl", "run.json"]), data=st.data())
def test_any_changed_bytes_load_or_raise_a_store_error(written, name, data):
    original = bytearray(written[1][name])
    for _ in range(data.draw(st.integers(1, 3))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    read(written, name, bytes(original[: data.draw(st.integers(0, len(original)))]))


@CASES
@given(name=st.sampled_from(["rounds.jsonl", "cells.jsonl"]), field=st.integers(0, 12), value=JSON)
def test_any_value_with_a_valid_checksum_loads_or_raises_a_store_error(written, name, field, value):
    first, *rest = written[1][name].splitlines(keepends=True)
    record = json.loads(first)[1]
    record[list(record)[field % len(record)]] = value
    body = json.dumps(record)
    if "NaN" in body or "Infinity" in body:
        return
    read(written, name, b"".join([checked_jsonl.encode(record), *rest]))


@CASES
@given(field=st.integers(0, 8), deeper=st.integers(0, 8), value=JSON)
def test_any_value_in_run_json_loads_or_raises_a_store_error(written, field, deeper, value):
    header = json.loads(written[1]["run.json"])
    header[list(header)[field % len(header)]] = value
    read(written, "run.json", json.dumps(header).encode())
    plan = json.loads(written[1]["run.json"])["plan"]
    plan[list(plan)[deeper % len(plan)]] = value
    read(
        written,
        "run.json",
        json.dumps({**json.loads(written[1]["run.json"]), "plan": plan}).encode(),
    )
