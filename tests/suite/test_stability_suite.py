"""Stability suites: from the table to groups of layers, and the options that do not apply."""

import pytest

from swbench import suite
from swbench.case import TRAINING
from swbench.errors import OptionError, SuiteError
from swbench.suite.source import parse

TEXT = """
schema = 1
kind = "stability"
[stability]
norm = ["in", "bw", "swa"]
solver = ["eigh", "polar"]
training_solver = ["eigh"]
dtype = ["float32", "amp-float16"]
input = ["dead", "large"]
steps = 40
seeds = 5
[full]
training_solver = ["eigh", "polar"]
"""

DTYPES = ("float32", "amp-float16")


def expand(**options):
    return suite.expand(parse(TEXT, "mine", "mine.toml"), **options)


def test_each_input_is_a_group_and_each_dtype_and_norm_of_the_training():
    plan = expand()
    assert [group.name for group in plan.groups] == [
        "cpu G=16 dead",
        "cpu G=16 large",
        *(f"cpu G=16 training {d} {n}" for d in DTYPES for n in ("bn", "in", "bw", "swa")),
    ]
    first, *_, last = plan.groups
    rows = ("BN", "IN", "BW [textbook]", "BW [eigh]", "BW [polar]")
    assert first.rows[:5] == rows
    assert len(first.rows) == 2 * (2 + 2 * 3)
    assert {case.dtype for case in first.cases} == set(DTYPES)
    assert last.rows == ("SW^a [textbook]", "SW^a [eigh]")
    assert {(case.trial, case.steps, case.seeds) for case in last.cases} == {(TRAINING, 40, 5)}
    assert {group.baseline.norm for group in plan.groups if group.baseline_key} == {"bn"}
    keys = [case.key for group in plan.groups for case in group.cases]
    assert len(set(keys)) == len(keys)  # a cell is stored once, whatever its group


def test_options_narrow_it():
    assert len(expand(dtypes=["bfloat16"]).groups) == 2 + 4
    assert expand(solvers=["svd"]).groups[0].rows[:4] == ("BN", "IN", "BW [textbook]", "BW [svd]")
    assert "SW^a [polar]" in expand(full=True).groups[-1].rows
    assert expand(only=["swa-eigh"]).groups[0].rows == ("BN", "SW^a [eigh]") * 2
    quick = expand(quick=True)
    assert quick.protocol.quick
    assert {(case.steps, case.seeds) for case in quick.groups[-1].cases} == {(30, 1)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"modes": ["graph"]}, "--mode does not apply to a suite of kind 'stability'"),
        ({"batches": [4]}, "--batch does not apply"),
        ({"replicates": 2}, "--replicates does not apply"),
        ({"target_ci": 0.01}, "--target-ci does not apply"),
        ({"metrics": ("time",)}, "--metrics does not apply"),
        ({"spectra": ["identity"]}, "--spectrum does not apply"),
        ({"dtypes": ["float64"]}, "--dtype float64 does not apply.*choose from float32, bfloat16"),
        ({"only": ["swb"]}, "--only swb matches nothing.*Known: in, bw, swa"),
    ],
)
def test_options_that_do_not_apply_to_stability_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        expand(**options)


def test_autocast_is_refused_for_solvers():
    with pytest.raises(OptionError, match="--dtype amp-float16 does not apply to a suite"):
        suite.expand(suite.load("solvers"), dtypes=["amp-float16"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace('"dead"', '"deaf"'), "input.0.: 'deaf' is not known. Did you mean 'dead'"),
        (TEXT.replace("[full]", "[solvers]"), "solvers: a suite of kind 'stability' has no such"),
        (TEXT.replace("amp-float16", "amp-float64"), "Did you mean 'amp-float16'"),
        ('schema = 1\nkind = "stability"', "stability is missing"),
        (TEXT + "rate = 1", "full.rate: no such key"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(SuiteError, match=message):
        parse(text, "mine", "mine.toml")


def test_training_without_steps_has_no_group():
    plan = suite.expand(parse(TEXT.replace("seeds = 5", "seeds = 0"), "mine", "mine.toml"))
    assert [group.cases[0].trial for group in plan.groups] == ["dead", "large"]
