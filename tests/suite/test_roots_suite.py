"""`--root`, forward only, and a mixed batch, in the plan of a solver suite."""

import pytest

from swbench import suite
from swbench.errors import OptionError, SuiteError
from swbench.suite.source import parse

TEXT = """
schema = 1
kind = "solvers"
[solvers]
solver = ["eigh", "polar"]
batch = [3]
group = [8, 16]
"""


def plan(more="", **options):
    return suite.expand(parse(TEXT + more, "text", "text"), **options)


def test_default_root_is_the_square_root_with_its_gradient():
    (case, *_) = plan().groups[0].cases
    assert (case.root, case.gradient, case.sizes) == (2, True, ())
    assert not {"root", "gradient", "sizes"} & case.to_json().keys()


def test_each_root_has_separate_groups_and_the_fourth_no_gradient():
    groups = plan(roots=[2, 4]).groups
    assert [group.name for group in groups] == [
        "cpu 3x8x8 kappa=1e3",
        "cpu 3x16x16 kappa=1e3",
        "cpu 3x8x8 kappa=1e3 p=4",
        "cpu 3x16x16 kappa=1e3 p=4",
    ]
    assert [(group.cases[0].root, group.cases[0].gradient) for group in groups] == [
        (2, True),
        (2, True),
        (4, False),
        (4, False),
    ]
    assert len({case.key for group in groups for case in group.cases}) == 12


def test_forward_only_changes_the_key():
    with_gradient, without = plan().groups[0].cases[0], plan("gradient = false").groups[0].cases[0]
    assert not without.gradient
    assert with_gradient.key != without.key


def test_mixed_batch_is_one_more_group_unless_sizes_were_given():
    groups = plan("mixed = [8, 16]").groups
    assert [group.cases[0].sizes for group in groups] == [(), (), (8, 16)]
    assert groups[2].name == "cpu 3x8x8+3x16x16 kappa=1e3"
    assert groups[2].cases[0].group == 16
    assert [group.cases[0].sizes for group in plan("mixed = [8, 16]", groups=[4]).groups] == [()]


@pytest.mark.parametrize("root", [1, 3, 8])
def test_another_root_is_refused(root):
    with pytest.raises(OptionError, match=rf"--root\[0\] must be 2 or 4 \(.*\), not {root}"):
        plan(roots=[root])
    with pytest.raises(SuiteError, match=r"solvers.root\[0\] must be 2 or 4"):
        plan(f"root = [{root}]")


@pytest.mark.parametrize("name", ["cifar", "stability"])
def test_root_is_refused_for_other_suites(name):
    with pytest.raises(OptionError, match="--root does not apply"):
        suite.expand(suite.load(name), roots=[4])


def test_the_suite_roots_is_forward_alone_and_has_no_easy_spectrum():
    loaded = suite.load("roots")
    plan = suite.expand(loaded)
    assert {case.root for group in plan.groups for case in group.cases} == {2, 4}
    assert not any(case.gradient for group in plan.groups for case in group.cases)
    assert "identity" not in loaded.base["spectrum"] + loaded.full["spectrum"]
    full = suite.expand(loaded, full=True)
    assert (1024, 64) in {(case.group, case.batch) for group in full.groups for case in group.cases}
