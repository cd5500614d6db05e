"""`gc_disabled` turns the garbage collector off and restores it."""

import gc

import pytest

from swbench.gc_control import gc_disabled


@pytest.fixture
def collector():
    """`collector(on)` switches Python's collector; it is on again after the test."""
    yield lambda on: gc.enable() if on else gc.disable()
    gc.enable()


@pytest.mark.parametrize("on", [True, False])
def test_gc_is_off_inside_and_restored_afterwards(on, collector):
    collector(on)
    with gc_disabled():
        assert not gc.isenabled()
        with gc_disabled():
            pass
        assert not gc.isenabled()
    assert gc.isenabled() is on


def test_gc_is_restored_after_an_exception(collector):
    collector(True)
    with pytest.raises(KeyError), gc_disabled():
        raise KeyError("x")
    assert gc.isenabled()
