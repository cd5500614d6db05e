"""The cost model recovers the link it was given, and its predictions are sums over layers."""

import pytest

from swbench.report.scaling import GATHER, REDUCE, Collective, Link, fit


def points(link, worlds=(2, 4), sizes=(16, 4096, 1_048_576)):
    return [Collective(kind, w, b, link.seconds(kind, w, b)) for kind in (GATHER, REDUCE) for w in worlds for b in sizes]


def test_the_fit_finds_the_link():
    found = fit(points(Link(30e-6, 2e-9)))
    assert found.latency_s == pytest.approx(30e-6)
    assert found.byte_s == pytest.approx(2e-9)
    assert found.worst < 1e-9


def test_nothing_negative_comes_out():
    faster_when_larger = [Collective(GATHER, 2, 16, 1e-3), Collective(GATHER, 2, 4096, 1e-4)]
    found = fit(faster_when_larger)
    assert found.latency_s >= 0
    assert found.byte_s >= 0
    assert found.worst > 0.1


def test_one_size_is_not_enough():
    with pytest.raises(ValueError, match="two sizes"):
        fit(points(Link(1e-6, 1e-9), sizes=(16,)))


def test_costs_by_hand():
    link = Link(1.0, 0.001)
    assert link.seconds(GATHER, 4, 100) == pytest.approx(3 + 0.3)
    assert link.seconds(REDUCE, 4, 100) == pytest.approx(6 + 0.15)
    assert link.seconds(GATHER, 1024, 0, tree=True) == pytest.approx(10)
    assert link.seconds(REDUCE, 1024, 0, tree=True) == pytest.approx(20)
    assert link.seconds(GATHER, 1, 100) == link.seconds(GATHER, 1, 100, tree=True) == 0
