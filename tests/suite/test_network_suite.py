"""Network suites: settings, phases and the full grid become groups, each with its own baseline."""

import pytest

from swbench import suite
from swbench.case import BASELINE, CONTROL, EVAL, FOLDED, TRAIN
from swbench.errors import OptionError
from swbench.suite.source import parse

TEXT = """
schema = 1
kind = "network"
[network]
model = "resnet20"
image = [[32, 32]]
group = 4
[[rows]]
norm = "bn"
[[rows]]
norm = "bw"
layers = 5
[[rows]]
norm = "swa"
layers = 5
[[settings]]
dtype = ["bfloat16", "amp-bfloat16"]
only = ["sw*"]
[[settings]]
phase = ["eval"]
batch = [1, 4]
[full]
phase = ["train", "eval"]
layout = ["contiguous", "channels_last"]
"""


def expand(text=TEXT, **options):
    return suite.expand(parse(text, "mine", "mine.toml"), **options)


def test_setting_overrides_the_networks_keys_and_selects_rows():
    groups = expand().groups
    assert [group.name for group in groups] == [
        "cpu batch 1 32x32 bfloat16",
        "cpu batch 1 32x32 amp-bfloat16",
        "cpu batch 1 32x32 eval",
        "cpu batch 4 32x32 eval",
    ]
    assert [case.norm for case in groups[0].cases] == ["bn", "bn", "swa"]
    assert [case.norm for case in groups[2].cases] == ["bn", "bn", "bn", "bw", "swa"]
    assert {case.phase for case in groups[0].cases} == {TRAIN}


def test_eval_groups_have_a_folded_bn():
    group = expand().groups[2]
    assert [(case.role, case.phase) for case in group.cases[:3]] == [
        (BASELINE, EVAL),
        (CONTROL, EVAL),
        ("variant", FOLDED),
    ]
    assert group.rows[2] == "ResNet20-BN (folded)"
    assert len({case.key for case in group.cases}) == len(group.cases)


def test_folded_bn_is_the_baseline_of_folded_groups():
    (group,) = suite.expand(suite.load("imagenet"), phases=["folded"]).groups
    assert {case.phase for case in group.cases} == {FOLDED}
    assert len(group.cases) == 5


def test_option_overrides_every_setting_and_equal_ones_are_merged():
    (both,) = expand(dtypes=["float16"], phases=["folded"], batches=[2]).groups
    assert [case.norm for case in both.cases] == ["bn", "bn", "swa", "bw"]
    assert both.rows[:2] == ("ResNet20-BN", "ResNet20-BN (control)")


def test_setting_without_a_selected_row_is_left_out():
    assert [group.name for group in expand(only=["bw*"]).groups] == [
        "cpu batch 1 32x32 eval",
        "cpu batch 4 32x32 eval",
    ]
    only_switchable = TEXT.replace('phase = ["eval"]', 'only = ["swa*"]', 1)
    with pytest.raises(OptionError, match="--only bw matches nothing"):
        expand(only_switchable, only=["bw"])


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"dtypes": ["float32"]}, ["1 32x32 eval", "4 32x32 eval"]),
        ({"dtypes": ["amp-bfloat16", "float16"]}, ["1 32x32 amp-bfloat16"]),
        ({"phases": ["eval"]}, ["1 32x32 eval", "4 32x32 eval"]),
        ({"phases": ["train"], "dtypes": ["bfloat16"]}, ["1 32x32 bfloat16"]),
        (
            {"dtypes": ["bfloat16"], "layouts": ["channels_last"]},
            ["1 32x32 bfloat16 channels_last"],
        ),
    ],
)
def test_an_option_chooses_the_settings_that_have_its_value(options, names):
    assert [group.name for group in expand(**options).groups] == [f"cpu batch {n}" for n in names]


def test_an_options_value_that_no_setting_has_goes_to_every_setting():
    names = [group.name for group in expand(dtypes=["float16"]).groups]
    assert names == [
        "cpu batch 1 32x32 float16",
        "cpu batch 1 32x32 float16 eval",
        "cpu batch 4 32x32 float16 eval",
    ]


def test_full_replaces_the_settings_by_a_grid():
    groups = expand(full=True).groups
    assert [group.name for group in groups] == [
        "cpu batch 1 32x32",
        "cpu batch 1 32x32 channels_last",
        "cpu batch 1 32x32 eval",
        "cpu batch 1 32x32 channels_last eval",
    ]


def test_a_suite_without_settings_takes_phases_and_autocast_from_options():
    groups = suite.expand(
        suite.load("imagenet"), phases=["train", "eval"], dtypes=["amp-bfloat16"], modes=["compile"]
    ).groups
    assert [group.name for group in groups] == [
        "cpu batch 1 224x224 compile amp-bfloat16",
        "cpu batch 1 224x224 compile amp-bfloat16 eval",
    ]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("imagenet", {"metrics": ["time", "energy"]}, "--metrics energy needs a backward pass"),
        ("imagenet", {"worlds": [2], "batches": [2]}, "--phase eval runs in one process"),
        ("solvers", {}, "--phase does not apply to a suite of kind 'solvers'"),
        ("stability", {}, "--phase does not apply to a suite of kind 'stability'"),
    ],
)
def test_eval_phase_is_refused_where_it_does_not_apply(name, options, message):
    with pytest.raises(OptionError, match=message):
        suite.expand(suite.load(name), phases=["train", "eval"], **options)


def test_the_suite_price_has_the_rows_of_its_table_and_no_others():
    plan = suite.expand(suite.load("price"))
    every, switchable = ("BW", "SW^a", "SW^b"), ("SW^a", "SW^b")
    assert {group.name: tuple(row[9:] for row in group.rows[2:]) for group in plan.groups} == {
        "cpu batch 1 224x224 compile": every,
        "cpu batch 1 224x224 amp-bfloat16": switchable,
        "cpu batch 8 224x224 amp-bfloat16": switchable,
        "cpu batch 1 224x224 bfloat16": every,
        "cpu batch 8 224x224 channels_last": every,
        "cpu batch 1 224x224": every,
        "cpu batch 1 224x224 eval": ("BN (folded)", *every),
        "cpu batch 8 224x224 eval": ("BN (folded)", *every),
        "cpu batch 1 224x224 compile folded": every,
    }
    assert "memory" in plan.metrics
    full = suite.expand(suite.load("price"), full=True).groups
    assert len(full) == 3 * 4 * 2 * 2 * 2
    for group in (*plan.groups, *full):
        first, second = group.cases[:2]
        assert (first.role, second.role) == (BASELINE, CONTROL)
        assert (first.norm, second.norm) == ("bn", "bn")
