"""The first node and its followers: what they say to each other, which nodes are alike, and what
becomes of a run that loses one.
"""

import socket
import threading
from contextlib import contextmanager

import pytest

from swbench.case import Case
from swbench.errors import NodeLost, StoreError, UnlikeEnvironments
from swbench.plan import Protocol
from swbench.plugins import Plugin
from swbench.ranks import connection as links
from swbench.ranks import nodes as leading
from swbench.ranks.connection import Link, Lost
from swbench.ranks.follower import follow
from swbench.ranks.nodes import Nodes, Share
from swbench.worker.job import Job


@contextmanager
def linked():
    """Both ends of a link."""
    with socket.create_server(("localhost", 0)) as server:
        first = Link(socket.create_connection(server.getsockname()))
        second = Link(server.accept()[0])
    try:
        yield first, second
    finally:
        first.close()
        second.close()


def test_messages_arrive_whole_and_in_order_however_the_bytes_come():
    with linked() as (one, other):
        assert other.take() is None
        one.send(do="start", text="x" * 200_000)
        one.send(do="stop")
        assert other.wait(20)["text"] == "x" * 200_000
        assert other.wait(20) == {"do": "stop"}
        assert other.wait(0.01) is None


@pytest.mark.parametrize("said", [b"[1]\n", b"no json\n", b"\xff\n"])
def test_a_line_that_is_no_json_object_ends_the_connection(said):
    with linked() as (one, other):
        one._socket.sendall(said)
        with pytest.raises(Lost, match="no message"):
            other.wait(20)


def test_too_long_a_line_ends_the_connection(monkeypatch):
    monkeypatch.setattr(links, "LONGEST_LINE", 100)
    with linked() as (one, other):
        one._socket.sendall(b"x" * 101)
        with pytest.raises(Lost, match="without end"):
            other.wait(20)


def test_a_closed_connection_is_noticed_by_reading_and_by_writing():
    with linked() as (one, other):
        one.close()
        with pytest.raises(Lost, match="closed"):
            other.wait(20)
        with pytest.raises(Lost):
            other.send(text="x" * 10_000_000)


LIKE = {
    "packages": {"torch": "2.13"},
    "processor": {"model": "A"},
    "code": {"commit": "c" * 40, "sources": "s"},
}


def nodes(**others):
    return Nodes(
        {},
        {
            int(node[1:]): {"environment": environment, "plugins": {}}
            for node, environment in others.items()
        },
    )


def test_nodes_that_are_alike_have_no_differences():
    assert nodes(n1=LIKE, n2=LIKE).compare(LIKE) == {}


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({**LIKE, "packages": {"torch": "2.11"}}, "torch: 2.13 / 2.11"),
        ({**LIKE, "processor": {"model": "B"}}, "CPU: A / B"),
        ({**LIKE, "gpus": [{"name": "H100"}]}, "GPU: not set / H100"),
        (
            {**LIKE, "code": {"commit": "d" * 40, "sources": "t"}},
            "swbench's sources: cccccccccccc / dddddddddddd",
        ),
        ({}, "and 1 more"),
    ],
)
def test_nodes_that_differ_are_refused_in_one_line_or_recorded(other, named):
    unlike = nodes(n1=LIKE, n2=other)
    if other:
        with pytest.raises(
            UnlikeEnvironments, match=r"^node 2 differs from node 0.*--anyway$"
        ) as refused:
            unlike.compare(LIKE)
        assert named in str(refused.value)
    found = unlike.compare(LIKE, anyway=True)
    assert list(found) == [2]
    assert found[2]


def test_every_node_has_the_same_plugins():
    with pytest.raises(UnlikeEnvironments, match="--plugin"):
        nodes(n1=LIKE).compare(LIKE, [Plugin("mine.py", "0123")])


def job(model="good"):
    cases = (Case(model=model, world=2, nodes=2, batch=2),)
    protocol = Protocol(iterations=1, replicates=1)
    return Job(
        group="g",
        cases=cases,
        replicate=0,
        attempt="a",
        protocol=protocol,
        workloads={},
        log="g.log",
    )


def test_the_ranks_of_a_job_are_told_where_they_meet_and_which_node_they_are():
    with linked() as (one, two):
        share = Nodes({1: one, 2: two}, {}, host="first").begin(job())
        order = two.wait(20)
        assert share.place == {**order["place"], "node": 0}
        assert order["place"]["node"] == 1
        assert order["place"]["endpoint"].startswith("first:")
        assert Job.from_json(order["job"]) == job()
        assert list(share.links) == [1]  # two nodes hold the job; the third has nothing to do


def test_ranks_that_fail_elsewhere_are_reported_and_those_that_end_well_are_not():
    with linked() as (one, two):
        share = Share({1: one}, {})
        two.send(code=0)
        assert one.fileno() in [handle.fileno() for handle in share.handles()]
        share.stop(1.0)
        assert share.failed() is None
    with linked() as (one, two):
        share = Share({1: one}, {})
        two.send(code=-9, said="rank 1: killed by SIGKILL", log="stacks")
        share.stop(1.0)
        assert share.failed() == {
            "node": 1,
            "code": -9,
            "said": "rank 1: killed by SIGKILL",
            "log": "stacks",
        }


def test_logs_of_other_nodes_are_kept_beside_this_nodes_log(tmp_path):
    with linked() as (one, two):
        share = Share({1: one}, {})
        two.send(code=-9, log="stacks")
        share.stop(1.0)
        share.keep_logs(tmp_path / "g.log")
    assert (tmp_path / "g.node1.log").read_text() == "stacks"


def test_a_log_that_cannot_be_kept_is_one_line_with_a_remedy(tmp_path):
    with linked() as (one, two):
        share = Share({1: one}, {})
        two.send(code=-9, log="stacks")
        share.stop(1.0)
        with pytest.raises(StoreError, match=r"^cannot write .*g\.node1\.log: .*--results$"):
            share.keep_logs(tmp_path / "removed" / "g.log")


def test_a_node_that_is_gone_ends_the_run_with_its_number(monkeypatch):
    monkeypatch.setattr(leading, "_STOP_S", 0.0)
    with linked() as (one, two):
        share = Share({1: one}, {})
        with pytest.raises(NodeLost, match="node 1 did not end its ranks within 0 s"):
            share.stop(0.0)
        two.close()
        with pytest.raises(NodeLost, match="node 1 is gone"):
            share.failed()
    assert NodeLost.exit_code == 3


def test_only_a_node_that_is_gone_is_named_as_lost():
    with linked() as (one, two):
        both = Nodes({1: one}, {})
        two.send(code=0)
        assert both.lost() == ""
        two.close()
        assert both.lost().startswith("node 1 is gone")
        assert both.lost().startswith("node 1 is gone")


def test_a_follower_ends_with_the_exit_status_of_the_run():
    with linked() as (one, two):
        found = []
        follower = threading.Thread(target=lambda: found.append(follow(two)), daemon=True)
        two.send(code=-9)  # a report that the run's end has overtaken
        follower.start()
        Nodes({1: one}, {}).end(3)
        follower.join(20)
        assert found == [3]


def test_a_follower_ends_where_the_first_node_is_gone():
    with linked() as (one, two):
        one.close()
        with pytest.raises(NodeLost, match="node 0 is gone"):
            follow(two)
