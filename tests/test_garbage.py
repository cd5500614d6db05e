"""No search for garbage inside, and the collector as it was found afterwards."""

import gc

import pytest

from swbench.garbage import uncollected


@pytest.fixture
def collector():
    """`collector(on)` switches Python's collector; it is on again after the test."""
    yield lambda on: gc.enable() if on else gc.disable()
    gc.enable()


@pytest.mark.parametrize("on", [True, False])
def test_it_is_off_inside_and_as_it_was_afterwards(on, collector):
    collector(on)
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled()
    assert gc.isenabled() is on


def test_it_is_as_it_was_after_a_failure(collector):
    collector(True)
    with pytest.raises(KeyError), uncollected():
        raise KeyError("x")
    assert gc.isenabled()
