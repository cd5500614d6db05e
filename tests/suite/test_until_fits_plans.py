"""Batches that are tried from the largest down: which groups are fallbacks of which."""

import pytest

from swbench import suite
from swbench.errors import OptionError, SuiteError
from swbench.plan import Plan
from swbench.suite.source import parse

SUITE = """
schema = 1
kind = "network"
[network]
model = "resnet20"
image = [[32, 32]]
batch = { cpu = [1], cuda = [2, 8, 4] }
until_fits = true
[[rows]]
norm = "bn"
"""


def chains(plan):
    return [(group.name, group.fallback_of) for group in plan.groups]


@pytest.fixture
def tries():
    return parse(SUITE, "tries", "x")


def test_smaller_batches_are_fallbacks_of_the_largest(tries):
    names = [f"cuda batch {batch} 32x32" for batch in (8, 4, 2)]
    plan = suite.expand(tries, devices=["cuda"])
    assert chains(plan) == [(names[0], None), (names[1], names[0]), (names[2], names[1])]
    assert [group.cases[0].batch for group in plan.groups] == [8, 4, 2]
    assert len({case.key for group in plan.groups for case in group.cases}) == 6


def test_device_with_one_batch_has_no_fallback(tries):
    plain = suite.expand(
        parse(SUITE.replace("until_fits = true\n", ""), "tries", "x"), devices=["cpu"]
    )
    assert suite.expand(tries, devices=["cpu"]) == plain
    assert "fallback_of" not in str(plain.to_json())


def test_fallback_differs_only_in_its_batch(tries):
    plan = suite.expand(
        tries,
        devices=["cpu", "cuda"],
        batches=[1, 4],
        dtypes=["float32", "bfloat16"],
        modes=["eager", "graph"],
        layouts=["channels_last"],
    )
    for group in plan.groups:
        if group.fallback_of is not None:
            assert group.fallback_of == group.name.replace("batch 1", "batch 4")
    assert (
        sum(group.fallback_of is None for group in plan.groups) == 2 * 2 * 2 == len(plan.groups) / 2
    )
    several = suite.expand(tries, devices=["cuda"], batches=[4, 8], worlds=[1, 2])
    assert [(group.name, group.fallback_of) for group in several.groups if group.fallback_of] == [
        ("cuda batch 4 32x32", "cuda batch 8 32x32"),
        ("cuda batch 4 32x32 2 processes", "cuda batch 8 32x32 2 processes"),
    ]


def test_the_option_goes_before_the_suite(tries):
    assert [
        name
        for _, name in chains(suite.expand(tries, devices=["cuda"], which_batches="every-batch"))
    ] == [None] * 3
    imagenet = suite.load("imagenet")
    assert chains(suite.expand(imagenet, devices=["cuda"], which_batches="until-fits"))[1] == (
        "cuda batch 1 224x224",
        "cuda batch 32 224x224",
    )
    assert [name for _, name in chains(suite.expand(imagenet, devices=["cuda"]))] == [None] * 2


def test_contradicting_options_are_refused(tries):
    with pytest.raises(
        OptionError, match="--until-fits does not apply to a suite of kind 'solvers'"
    ):
        suite.expand(suite.load("solvers"), which_batches="until-fits")
    with pytest.raises(OptionError, match="Known: until-fits, every-batch"):
        suite.expand(tries, which_batches="largest")
    with pytest.raises(
        SuiteError,
        match=(
            r"network\.until_fits must be true or false, not "
            r"\[16\]|network\.until_fits must be true or false, not a list"
        ),
    ):
        parse(SUITE.replace("until_fits = true", "until_fits = [16]"), "x", "x")


def test_fallback_is_due_after_all_larger_batches_ran_out_of_memory(tries):
    plan = suite.expand(tries, devices=["cuda"])
    large, middle, small = (group.name for group in plan.groups)

    def names(groups):
        return [group.name for group in groups]

    assert names(plan.due(())) == names(plan.lasting(())) == [large]
    assert names(plan.due({large})) == [large, middle]
    assert names(plan.lasting({large})) == [middle]
    assert names(plan.due({middle})) == [large], "what was not due cannot have run out"
    assert names(plan.due({large, middle, small})) == [large, middle, small]
    assert plan.given_up({large, middle, small}) == {large, middle}
    assert Plan.from_json(plan.to_json()) == plan


def test_table_2_is_tried_from_the_papers_batch_down_on_a_gpu():
    for name in ("cityscapes", "paper-2019-table2"):
        plan = suite.expand(suite.load(name), devices=["cpu", "cuda"])
        assert [group.cases[0].batch for group in plan.groups] == [1, 16, 8, 4, 2, 1]
        assert [group.fallback_of is None for group in plan.groups] == [
            True,
            True,
            False,
            False,
            False,
            False,
        ]
