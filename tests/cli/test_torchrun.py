"""Which of torchrun's processes measures, and with how many ranks on how many nodes."""

import pytest

from swbench.cli import torchrun
from swbench.cli.torchrun import place, spread, under
from swbench.errors import OptionError


def environ(rank, world, local=None):
    local = local or world
    given = {"RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": local, "LOCAL_RANK": rank % local}
    given |= {"GROUP_RANK": rank // local, "GROUP_WORLD_SIZE": world // local}
    return {"TORCHELASTIC_RUN_ID": "x", **{name: str(value) for name, value in given.items()}}


def spread_over(world, local=None, asked=None):
    options = {"worlds": asked}
    spread(options, place(environ(0, world, local)))
    return options["worlds"], options["per_node"]


def never(nodes):
    raise AssertionError


def test_without_torchrun_nothing_changes():
    options = {"worlds": None}
    assert under(options, lambda nodes: 7 if nodes is None else 0, {"RANK": "3"}) == 7
    assert options == {"worlds": None}


def test_rank_0_measures_with_as_many_processes_as_torchrun_was_asked_for():
    options = {"worlds": None}
    assert under(options, lambda nodes: 7, environ(0, 8)) == 7
    assert options == {"worlds": (8,), "per_node": None}
    assert under({"worlds": None}, never, environ(3, 8)) == 0


def test_on_each_other_node_one_process_follows_and_the_rest_have_nothing_to_do(monkeypatch):
    monkeypatch.setattr(torchrun, "_follow", lambda here, plugins: here.node)
    assert under({"plugins": ()}, never, environ(4, 8, 4)) == 1
    assert [under({"plugins": ()}, never, environ(rank, 8, 4)) for rank in (1, 3, 5, 7)] == [0] * 4


def test_the_processes_of_all_nodes_are_those_of_the_cases_on_as_few_nodes_as_hold_them():
    assert spread_over(8, 4) == ((8,), 4)
    assert spread_over(8, 4, (1, 4, 6)) == ((1, 4, 6), 4)


def test_fewer_processes_may_be_named_and_more_may_not():
    assert spread_over(2, asked=(1, 2)) == ((1, 2), None)
    with pytest.raises(OptionError, match="more than the 2 processes"):
        spread_over(2, asked=(4,))


def test_nodes_share_equally():
    with pytest.raises(OptionError, match=r"--nproc 5 cannot be shared equally by 2 nodes of 4 processes; choose a multiple of 2"):
        spread_over(8, 4, (5,))
