"""Under torchrun: the process that measures, and its numbers of ranks and nodes."""

import pytest

from swbench.cli import torchrun
from swbench.cli.torchrun import place, run_under_torchrun, set_world_sizes
from swbench.errors import NodeLost, OptionError, SwbenchError
from swbench.ranks import nodes as leading


def environ(rank, world, local=None):
    local = local or world
    given = {
        "RANK": rank,
        "WORLD_SIZE": world,
        "LOCAL_WORLD_SIZE": local,
        "LOCAL_RANK": rank % local,
    }
    given |= {"GROUP_RANK": rank // local, "GROUP_WORLD_SIZE": world // local}
    return {"TORCHELASTIC_RUN_ID": "x", **{name: str(value) for name, value in given.items()}}


def spread_over(world, local=None, worlds=None):
    options = {"worlds": worlds}
    set_world_sizes(options, place(environ(0, world, local)))
    return options["worlds"], options["per_node"]


def never(nodes):
    raise AssertionError


def test_without_torchrun_options_are_unchanged():
    options = {"worlds": None}
    assert run_under_torchrun(options, lambda nodes: 7 if nodes is None else 0, {"RANK": "3"}) == 7
    assert options == {"worlds": None}


def test_rank_0_measures_with_torchruns_number_of_processes():
    options = {"worlds": None}
    assert run_under_torchrun(options, lambda nodes: 7, environ(0, 8)) == 7
    assert options == {"worlds": (8,), "per_node": None}
    assert run_under_torchrun({"worlds": None}, never, environ(3, 8)) == 0


def test_on_other_nodes_one_process_follows_and_the_rest_exit(monkeypatch):
    monkeypatch.setattr(torchrun, "_follow", lambda here, plugins: here.node)
    assert run_under_torchrun({"plugins": ()}, never, environ(4, 8, 4)) == 1
    assert [
        run_under_torchrun({"plugins": ()}, never, environ(rank, 8, 4)) for rank in (1, 3, 5, 7)
    ] == [0] * 4


def test_the_processes_of_all_nodes_are_those_of_the_cases_on_as_few_nodes_as_hold_them():
    assert spread_over(8, 4) == ((8,), 4)
    assert spread_over(8, 4, (1, 4, 6)) == ((1, 4, 6), 4)


class RecordingNodes:
    """Nodes of which one may be lost; keeps the exit status that the others were told."""

    def __init__(self, lost=""):
        self._lost, self.code = lost, None

    def lost(self):
        return self._lost

    def end(self, code):
        self.code = code


class Stopped(SwbenchError):
    def __init__(self, exit_code):
        self.exit_code = exit_code
        super().__init__("3 cells are kept")


def led(monkeypatch, nodes, result):
    def measure(given):
        assert given is nodes
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr(leading.Nodes, "gather", lambda count, processes: nodes)
    return run_under_torchrun({"worlds": None}, measure, environ(0, 8, 4))


@pytest.mark.parametrize("code", [0, 3])
def test_followers_exit_with_the_status_of_the_first_node(monkeypatch, code):
    nodes = RecordingNodes()
    assert led(monkeypatch, nodes, code) == nodes.code == code


@pytest.mark.parametrize(
    ("problem", "code"),
    [(Stopped(2), 2), (Stopped(143), 143), (KeyboardInterrupt(), 130), (ZeroDivisionError(), 1)],
)
def test_failed_run_ends_all_nodes(monkeypatch, problem, code):
    nodes = RecordingNodes()
    with pytest.raises(type(problem)):
        led(monkeypatch, nodes, problem)
    assert nodes.code == code


def test_lost_node_is_named_when_torchrun_ends_the_first(monkeypatch):
    nodes = RecordingNodes(lost="node 1 is gone")
    with pytest.raises(NodeLost, match=r"^node 1 is gone; 3 cells are kept$"):
        led(monkeypatch, nodes, Stopped(143))
    assert nodes.code == 3


def test_nproc_may_be_lower_than_torchruns_but_not_higher():
    assert spread_over(2, worlds=(1, 2)) == ((1, 2), None)
    with pytest.raises(OptionError, match="more than the 2 processes"):
        spread_over(2, worlds=(4,))


@pytest.mark.parametrize("world", [0, -3])
def test_nproc_0_is_refused_in_one_line(world):
    with pytest.raises(OptionError, match=f"--nproc must be at least 1 .*not {world}$"):
        spread_over(4, worlds=(1, world))


def test_nproc_that_nodes_cannot_share_equally_is_refused():
    with pytest.raises(
        OptionError,
        match=(
            r"--nproc 5 cannot be shared equally by 2 nodes of 4 processes; choose "
            r"a multiple of 2"
        ),
    ):
        spread_over(8, 4, (5,))
