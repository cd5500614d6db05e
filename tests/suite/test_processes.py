"""Batches that several processes share: weak and strong scaling, and batches that are too small."""

import pytest

from swbench import suite
from swbench.errors import OptionError
from swbench.machine.hardware import usable_cores


def spreads(plan):
    return [(group.cases[0].batch, group.cases[0].world) for group in plan.groups]


def test_nproc_skips_batches_without_an_image_for_each_process():
    plan = suite.expand(suite.load("cifar"), worlds=[2], only=["swa*"])
    assert set(spreads(plan)) == {(128, 2)}
    assert {case.world for group in plan.groups for case in group.cases} == {2}
    assert all("2 processes" in group.name for group in plan.groups)


def test_weak_scaling_counts_the_images_of_each_process():
    plan = suite.expand(suite.load("scaling-devices"))
    assert spreads(plan) == [(16, 1), (16, 2), (32, 2), (16, 4), (64, 4), (16, 8), (128, 8)]
    assert len({group.name for group in plan.groups}) == len(plan.groups)


def test_threads_are_shared_between_processes():
    plan = suite.expand(suite.load("scaling-devices"), worlds=[8], batches=[8])
    assert {case.threads for group in plan.groups for case in group.cases} == {
        max(1, usable_cores() // 8)
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"worlds": [4], "batches": [2]}, "--batch 2 has no image for each of 4 processes"),
        ({"worlds": [0]}, "--nproc"),
        (
            {"worlds": [256]},
            ("no batch of suite 'cifar' on cpu has an image for each of 256 processes"),
        ),
        ({"worlds": [256], "devices": ["cuda"]}, "no batch of suite 'cifar' on cuda"),
    ],
)
def test_nproc_that_no_batch_can_be_shared_by_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        suite.expand(suite.load("cifar"), **options)


def test_indexed_gpu_with_several_processes_is_refused():
    with pytest.raises(
        OptionError, match=r"--device cuda:1 is one GPU.*use --device cuda, or --nproc 1"
    ):
        suite.expand(suite.load("cifar"), devices=["cuda:1"], worlds=[2])
    assert suite.expand(suite.load("cifar"), devices=["cuda:1"], worlds=[1]).groups


def test_nproc_is_refused_for_solvers():
    with pytest.raises(OptionError, match="--nproc"):
        suite.expand(suite.load("solvers"), worlds=[2])
