"""A case is identified by all of its fields, and round-trips through JSON."""

import dataclasses
import json

import pytest

from swbench.case import CONTROL, EVAL, Case, SolverCase, StabilityCase, case_from_json
from swbench.plan import Group, Plan, Protocol

CASE = Case(model="resnet50", norm="swa", layers=7, solver="eigh")


@pytest.mark.parametrize(
    "case",
    [CASE, SolverCase(solver="polar", batch=72), StabilityCase(norm="bw", trial="dead")],
)
def test_json_round_trip(case):
    assert case_from_json(json.loads(json.dumps(case.to_json()))) == case


def test_every_field_changes_the_key():
    other = {
        "model": "x",
        "norm": "bw",
        "layers": 14,
        "solver": "svd",
        "group": 8,
        "classes": 19,
        "image": (713, 713),
        "batch": 2,
        "device": "cuda",
    }
    other |= {
        "dtype": "bfloat16",
        "mode": "graph",
        "layout": "channels_last",
        "threads": 2,
        "world": 2,
        "nodes": 2,
        "placement": "public",
        "where": "every=6",
        "phase": EVAL,
        "role": CONTROL,
    }
    assert set(other) == {f.name for f in dataclasses.fields(Case)}
    keys = {dataclasses.replace(CASE, **{name: value}).key for name, value in other.items()}
    assert len(keys | {CASE.key}) == len(other) + 1


def test_added_fields_leave_old_keys_unchanged():
    assert not {"nodes", "phase"} & CASE.to_json().keys()
    assert CASE.key == "3bf5724bd69651f1"
    spread_cases = dataclasses.replace(CASE, world=8, nodes=2)
    assert case_from_json(json.loads(json.dumps(spread_cases.to_json()))) == spread_cases
    assert spread_cases.key != dataclasses.replace(CASE, world=8).key


def test_an_unknown_field_is_refused():
    with pytest.raises(ValueError, match="no field 'colour'"):
        case_from_json({**CASE.to_json(), "colour": "red"})


def test_plan_json_round_trip():
    group = Group(name="cpu", cases=(CASE,), rows=("SW^a",))
    plan = Plan(
        suite="s",
        title="t",
        kind="network",
        groups=(group,),
        metrics=("time",),
        protocol=Protocol(iterations=7, replicates=2),
    )
    restored = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    assert restored == plan
    assert restored.protocol.rounds == 4


def test_old_solver_cases_keep_their_keys():
    assert SolverCase(solver="polar", batch=72).key == "dfd91de588c752b5"
    mixed = SolverCase(solver="polar", batch=2, root=4, gradient=False, sizes=(8, 16), group=16)
    assert case_from_json(json.loads(json.dumps(mixed.to_json()))) == mixed
