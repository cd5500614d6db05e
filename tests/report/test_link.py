"""The cost of a collective: the fit recovers the link it was given, and says how wrong it is where
there is none.
"""

import random
from dataclasses import replace

import pytest

from swbench.report.link import GATHER, REDUCE, Collective, Link, fit

KINDS = (GATHER, REDUCE)
SIZES = (16, 4096, 65_536, 1_048_576)


def link(kind=GATHER, worlds=(2, 4), call_s=200e-6, step_s=30e-6, byte_s=1e-9):
    return Link(kind, worlds, call_s, step_s, byte_s)


def points(truth, sizes=SIZES):
    return [
        Collective(truth.kind, world, size, truth.seconds(world, size))
        for world in truth.worlds
        for size in sizes
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_fit_finds_the_link(kind):
    truth = link(kind, worlds=(2, 4, 8))
    found = fit(points(truth))
    assert (found.call_s, found.step_s, found.byte_s) == pytest.approx((200e-6, 30e-6, 1e-9))
    assert found.worst < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_of_other_numbers_holds_the_truth(kind):
    truth = link(kind, worlds=(2, 4, 8))
    low, high = fit(points(truth)).between(64, 4096)
    assert low < truth.seconds(64, 4096) == pytest.approx(high)


@pytest.mark.parametrize(
    "truth",
    [link(worlds=(2,), step_s=0.0), link(worlds=(2,), call_s=0.0), link(REDUCE, worlds=(4,))],
)
def test_one_number_of_ranks_cannot_tell_calls_from_steps_and_says_both(truth):
    found = fit(points(truth))
    assert found.worst < 1e-6
    assert found.step_s == 0
    assert found.seconds(truth.worlds[0], 4096) == pytest.approx(
        truth.seconds(truth.worlds[0], 4096)
    )
    low, high = found.between(64, 4096)
    assert low * (1 - 1e-6) <= truth.seconds(64, 4096) <= high * (1 + 1e-6)
    assert high > 5 * low


def test_small_and_large_collectives_weigh_alike():
    noisy = random.Random(1)
    truth = link()
    found = fit(
        [replace(point, seconds=point.seconds * noisy.uniform(0.9, 1.1)) for point in points(truth)]
    )
    for point in points(truth):
        assert found.seconds(point.world, point.nbytes) == pytest.approx(point.seconds, rel=0.2)
    assert 0.01 < found.error < 0.2


def test_points_that_no_link_explains_show_in_the_error():
    jumping = [
        replace(point, seconds=point.seconds * (10 if place % 2 else 1))
        for place, point in enumerate(points(link()))
    ]
    found = fit(jumping)
    assert found.error > 0.5
    assert found.worst >= found.error


def test_ranks_beyond_what_fewer_say_of_them_show_in_the_error():
    truth = link(worlds=(2, 4))
    crowded = [
        replace(point, seconds=point.seconds * (20 if point.world == 4 else 1))
        for point in points(truth)
    ]
    assert fit(points(truth)).worst < 1e-6
    assert fit(crowded).worst > 0.5


def test_nothing_negative_comes_out():
    faster_when_larger = [
        Collective(GATHER, 2, size, seconds)
        for size, seconds in zip(SIZES, (4e-3, 3e-3, 2e-3, 1e-3), strict=True)
    ]
    found = fit(faster_when_larger)
    assert min(found.call_s, found.step_s, found.byte_s) >= 0
    assert found.error > 0.5


def test_two_sizes_are_not_enough():
    with pytest.raises(ValueError, match="three sizes"):
        fit(points(link(), sizes=(16, 4096)))


def test_costs_by_hand():
    one = Link(GATHER, (2, 4), 0.5, 1.0, 0.001)
    assert one.seconds(4, 100) == pytest.approx(0.5 + 3 + 0.3)
    assert one.between(4, 100) == pytest.approx((0.5 + 2 + 0.3, 0.5 + 3 + 0.3))
    assert one.between(1024, 0) == pytest.approx((10.5, 1023.5))
    two = Link(REDUCE, (2, 4), 0.5, 1.0, 0.001)
    assert two.seconds(4, 100) == pytest.approx(0.5 + 6 + 0.15)
    assert two.between(1024, 0) == pytest.approx((20.5, 2046.5))
    assert one.seconds(1, 100) == 0
    assert one.between(1, 100) == (0, 0)
