"""A plan has every combination once, a baseline and its control in every group, and obeys the
options.
"""

import pytest

from swbench import suite
from swbench.case import BASELINE, CONTROL
from swbench.errors import OptionError
from swbench.machine.hardware import usable_cores
from swbench.suite.source import parse

SOLVERS = """
schema = 1
kind = "solvers"
[solvers]
batch = { cpu = [72, 2048], cuda = [72] }
group = [4, 16]
spectrum = ["kappa=1e3", "identity"]
[full]
group = [4, 8, 16, 64]
"""


@pytest.fixture
def imagenet():
    return suite.load("imagenet")


def test_table_1_is_one_group_with_baseline_and_control(imagenet):
    (group,) = suite.expand(imagenet).groups
    assert group.name == "cpu batch 1 224x224"
    assert group.rows == (
        "ResNet50-BN",
        "ResNet50-BN (control)",
        "ResNet50-BW",
        "ResNet50-SW^a",
        "ResNet50-SW^b",
    )
    assert [case.role for case in group.cases[:2]] == [BASELINE, CONTROL]
    assert len({case.key for case in group.cases}) == 5
    assert {case.threads for case in group.cases} == {usable_cores()}


def test_devices_and_lists_multiply(imagenet):
    plan = suite.expand(
        imagenet, devices=["cpu", "cuda"], solvers=["eigh", "auto"], dtypes=["float32", "bfloat16"]
    )
    assert [group.name for group in plan.groups] == [
        "cpu batch 1 224x224",
        "cpu batch 1 224x224 bfloat16",
        "cuda batch 1 224x224",
        "cuda batch 32 224x224",
        "cuda batch 1 224x224 bfloat16",
        "cuda batch 32 224x224 bfloat16",
    ]
    assert all(len(group.cases) == 2 + 3 * 2 for group in plan.groups)
    assert "ResNet50-SW^a [eigh]" in plan.groups[0].rows
    assert plan.groups[2].cases[0].threads == 0


@pytest.mark.parametrize("glob", ["swa*", "swa-7", "ResNet50-SW^a", "swa-7-auto"])
def test_only_keeps_baseline_and_control(imagenet, glob):
    (group,) = suite.expand(imagenet, only=[glob]).groups
    assert group.rows == ("ResNet50-BN", "ResNet50-BN (control)", "ResNet50-SW^a")


def test_protocol_comes_from_suite_quick_and_options(imagenet):
    quick = suite.expand(imagenet, quick=True).protocol
    assert (quick.quick, quick.replicates, quick.rounds) == (True, 2, 5)
    assert suite.expand(imagenet, quick=True, iterations=20).protocol.rounds == 10
    assert suite.expand(imagenet, iterations=1).protocol.replicates == 1
    assert suite.expand(imagenet, replicates=200).protocol.iterations == 200
    assert suite.expand(imagenet, target_ci=0.01, budget_s=60, seed=3).protocol.seed == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iterations": 0}, "--iterations must be at least 1, not 0"),
        ({"iterations": -1}, "--iterations must be at least 1, not -1"),
        ({"iterations": 3, "replicates": 5}, "cannot be spread"),
        ({"batches": [10**9]}, r"--batch\[0\] must be at most"),
        ({"batches": [10**6]}, "--batch must be at most 65,536"),
        ({"devices": ["gpu"]}, "--device.*Known: cpu, cuda"),
        ({"target_ci": float("nan")}, "--target-ci must be a finite number"),
        ({"budget_s": -1.0}, "--budget must be at least 0"),
        ({"only": ["swab"]}, "Did you mean 'swa-7'.*Known: bn, bw-7, swa-7, swb-7"),
        ({"solvers": ["egih"]}, "Did you mean 'eigh'"),
        ({"spectra": ["identity"]}, "--spectrum does not apply"),
    ],
)
def test_invalid_options_are_refused_with_name_and_value(imagenet, options, message):
    with pytest.raises(OptionError, match=message):
        suite.expand(imagenet, **options)


def test_a_solver_suite_has_a_group_for_each_problem():
    loaded = parse(SOLVERS, "solvers", "x")
    plan = suite.expand(loaded, solvers=["eigh", "eigh:backward=paper"])
    assert len(plan.groups) == 2 * 2 * 2
    assert plan.groups[0].rows == ("eigh", "eigh (control)", "eigh:backward=paper")
    assert plan.metrics == ("time", "accuracy")
    assert len(suite.expand(loaded, full=True, devices=["cuda"]).groups) == 4 * 2


def test_too_large_a_grid_is_refused():
    grid = SOLVERS.replace("[4, 8, 16, 64]", f"{list(range(1, 900))}").replace(
        '["kappa=1e3", "identity"]', f"{[f'kappa={i}' for i in range(1, 99)]}"
    )
    with pytest.raises(OptionError, match="more than 20,000 cases"):
        suite.expand(parse(grid, "x", "x"), full=True)


def test_rows_with_a_model_of_their_own_get_groups_of_their_own():
    plan = suite.expand(suite.load("cifar"), devices=["cpu"], batches=[1])
    assert [group.cases[0].model for group in plan.groups] == [
        "resnet20",
        "resnet32",
        "resnet44",
        "resnet56",
        "resnet110",
    ]
    assert len({group.name for group in plan.groups}) == 5
    for group, layers in zip(plan.groups, (5, 8, 11, 14, 28), strict=True):
        assert {case.model for case in group.cases} == {group.cases[0].model}
        assert [case.layers for case in group.cases] == [0, 0, layers, layers, layers, layers]
        assert group.baseline.norm == "bn"
    only = suite.expand(suite.load("cifar"), devices=["cpu"], batches=[1], only=["ResNet44-SW*"])
    assert [group.rows for group in only.groups] == [
        ("ResNet44-BN", "ResNet44-BN (control)", "ResNet44-SW^a", "ResNet44-SW^b")
    ]


def test_the_suites_of_the_paper_have_its_rows():
    cityscapes = suite.expand(suite.load("cityscapes"), devices=["cpu", "cuda"])
    assert [(group.cases[0].batch, group.cases[0].image) for group in cityscapes.due(())] == [
        (1, (713, 713)),
        (16, (713, 713)),
    ]
    rows = [("bw", 7), ("swa", 7), ("swb", 7), ("bw", 14), ("swa", 14), ("swb", 14)]
    assert [(case.norm, case.layers) for case in cityscapes.groups[0].cases] == [
        ("bn", 0),
        ("bn", 0),
        *rows,
    ]
    assert {
        case.classes for case in suite.expand(suite.load("ade20k"), devices=["cpu"]).groups[0].cases
    } == {150}
    style = suite.expand(suite.load("style"), devices=["cpu"])
    assert [group.cases[0].image for group in style.groups] == [(256, 256), (512, 512)]
    assert [case.norm for case in style.groups[0].cases] == ["bn", "bn", "in", "bw", "iw", "swa"]


def test_an_image_too_small_for_the_network_is_one_line(tmp_path):
    text = (suite.folder() / "imagenet.toml").read_text().replace("[[224, 224]]", "[[224, 32]]")
    (tmp_path / "small.toml").write_text(text)
    with pytest.raises(
        OptionError,
        match=(
            "224x32 is too small for resnet50 at batch 1; both sides must be at least 33 pixels"
        ),
    ):
        suite.expand(suite.load(tmp_path / "small.toml"), devices=["cpu"])


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (
            'batch = [72]\ndevice = ["cuda"]',
            {},
            "suite 'text' is not for cpu; choose --device cuda",
        ),
        (
            "batch = { cuda = [72] }",
            {"devices": ["cpu"]},
            "suite 'text' has no batch for cpu; give one with --batch",
        ),
        (
            "batch = [72]",
            {"modes": ["graph"]},
            ("suite 'text' has nothing for cpu in mode graph; choose another --mode or --device"),
        ),
    ],
)
def test_empty_plan_is_refused_with_reason_and_remedy(text, options, message):
    loaded = parse(f'schema = 1\nkind = "solvers"\n[solvers]\n{text}\n', "text", "text")
    with pytest.raises(OptionError) as refused:
        suite.expand(loaded, **options)
    assert str(refused.value) == message


def test_a_solver_suite_may_name_other_solvers_for_each_device():
    text = SOLVERS.replace(
        "[solvers]\n", '[solvers]\nsolver = { cpu = ["svd"], cuda = ["polar"] }\n'
    )
    loaded = parse(text, "solvers", "x")
    plan = suite.expand(loaded, devices=["cpu", "cuda"])
    rows = {group.name.split()[0]: set(group.rows) for group in plan.groups}
    assert "svd" in rows["cpu"]
    assert "polar" not in rows["cpu"]
    assert "polar" in rows["cuda"]
    assert "svd" not in rows["cuda"]
    assert all("newton" in group.rows for group in suite.expand(loaded, solvers=["newton"]).groups)
