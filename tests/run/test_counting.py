"""Groups that need equal counts are counted once, and each group gets its own results."""

import pytest

from swbench import store, suite
from swbench.result import COUNTED, FLOPS
from swbench.run import counting


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """`counted(plan)` -> the heights that were really counted, and the results, whose FLOPs are the
    height of the image.
    """
    counted_sizes = []

    def elsewhere(cases, plugins):
        counted_sizes.append(cases[0].image[0])
        return [
            {"measurements": [(FLOPS, "1", [float(case.image[0])])], "notes": {}} for case in cases
        ]

    def counted(plan):
        monkeypatch.setattr(counting, "_count_in_subprocess", elsewhere)
        with store.RunWriter.create(tmp_path, plan, {}, "") as writer:
            counting.count(plan, writer)
            return counted_sizes, list(writer.results)

    return counted


def test_counts_are_shared_by_batches_and_devices_but_not_by_image_sizes(counted):
    plan = suite.expand(suite.load("scaling"), devices=["cpu", "cuda"], modes=["eager", "graph"])
    counted_sizes, results = counted(plan)
    assert counted_sizes == [224, 448, 713]
    assert [result.case for result in results] == [
        case.key for group in plan.groups for case in group.cases
    ]
    assert {result.replicate for result in results} == {COUNTED}
    images = {case.key: case.image[0] for group in plan.groups for case in group.cases}
    assert all(result.samples(FLOPS) == (images[result.case],) for result in results)


def test_dtypes_are_counted_separately(counted):
    assert counted(suite.expand(suite.load("imagenet"), dtypes=["float32", "bfloat16"]))[0] == [
        224,
        224,
    ]


def test_fallback_is_not_counted_before_it_is_due(counted):
    plan = suite.expand(suite.load("cityscapes"), devices=["cuda"])
    counted_sizes, results = counted(plan)
    assert counted_sizes == [713]
    assert {result.group for result in results} == {plan.groups[0].name}
