"""Which of torchrun's processes measures, and with how many ranks."""

import pytest

from swbench.cli.torchrun import leads
from swbench.errors import OptionError


def environ(rank, world, local=None):
    return {"TORCHELASTIC_RUN_ID": "x", "RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(local or world)}


def test_without_torchrun_nothing_changes():
    options = {"worlds": None}
    assert leads(options, {"RANK": "3"})
    assert options == {"worlds": None}


def test_rank_0_measures_with_as_many_processes_as_torchrun_was_asked_for():
    options = {"worlds": None}
    assert leads(options, environ(0, 8))
    assert options == {"worlds": (8,)}
    assert not leads({"worlds": None}, environ(3, 8))


def test_fewer_processes_may_be_named_and_more_may_not():
    options = {"worlds": (1, 2)}
    assert leads(options, environ(0, 2))
    assert options == {"worlds": (1, 2)}
    with pytest.raises(OptionError, match="more than the 2 processes"):
        leads({"worlds": (4,)}, environ(0, 2))


def test_several_machines_are_refused():
    with pytest.raises(OptionError, match="on one"):
        leads({"worlds": None}, environ(0, 16, 8))
