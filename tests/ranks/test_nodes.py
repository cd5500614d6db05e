"""The first node and its followers: their messages, the comparison of their environments, and a run
that loses a node.
"""

import socket
import threading
from contextlib import contextmanager

import pytest

from swbench.case import Case
from swbench.errors import NodeLost, StoreError, UnlikeEnvironments
from swbench.plan import Protocol
from swbench.plugins import Plugin
from swbench.ranks import connection as connection_module
from swbench.ranks import nodes as nodes_module
from swbench.ranks.connection import Connection, ConnectionLost
from swbench.ranks.follower import follow
from swbench.ranks.nodes import JobOnNodes, Nodes
from swbench.worker.job import Job


@contextmanager
def connected_pair():
    """Both ends of a connection."""
    with socket.create_server(("localhost", 0)) as server:
        first = Connection(socket.create_connection(server.getsockname()))
        second = Connection(server.accept()[0])
    try:
        yield first, second
    finally:
        first.close()
        second.close()


def test_messages_arrive_complete_and_in_order():
    with connected_pair() as (first, other):
        assert other.receive_nowait() is None
        first.send(do="start", text="x" * 200_000)
        first.send(do="stop")
        assert other.wait(20)["text"] == "x" * 200_000
        assert other.wait(20) == {"do": "stop"}
        assert other.wait(0.01) is None


@pytest.mark.parametrize("data", [b"[1]\n", b"no json\n", b"\xff\n"])
def test_line_that_is_no_json_object_raises_connection_lost(data):
    with connected_pair() as (first, other):
        first._socket.sendall(data)
        with pytest.raises(ConnectionLost, match="no message"):
            other.wait(20)


def test_too_long_line_raises_connection_lost(monkeypatch):
    monkeypatch.setattr(connection_module, "LONGEST_LINE", 100)
    with connected_pair() as (first, other):
        first._socket.sendall(b"x" * 101)
        with pytest.raises(ConnectionLost, match="without end"):
            other.wait(20)


def test_closed_connection_raises_on_receive_and_send():
    with connected_pair() as (first, other):
        first.close()
        with pytest.raises(ConnectionLost, match="closed"):
            other.wait(20)
        with pytest.raises(ConnectionLost):
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


def test_equal_nodes_have_no_differences():
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
def test_differing_nodes_are_refused_or_recorded_with_anyway(other, named):
    unlike = nodes(n1=LIKE, n2=other)
    if other:
        with pytest.raises(
            UnlikeEnvironments, match=r"^node 2 differs from node 0.*--anyway$"
        ) as refused:
            unlike.compare(LIKE)
        assert named in str(refused.value)
    differences = unlike.compare(LIKE, anyway=True)
    assert list(differences) == [2]
    assert differences[2]


def test_node_with_other_plugins_is_refused():
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


def test_start_message_holds_endpoint_node_and_job():
    with connected_pair() as (first, second):
        job_on_nodes = Nodes({1: first, 2: second}, {}, host="first").begin(job())
        order = second.wait(20)
        assert job_on_nodes.place == {**order["place"], "node": 0}
        assert order["place"]["node"] == 1
        assert order["place"]["endpoint"].startswith("first:")
        assert Job.from_json(order["job"]) == job()
        assert list(job_on_nodes.connections) == [
            1
        ]  # two nodes hold the job; the third has nothing to do


def test_failed_returns_only_reports_with_a_nonzero_code():
    with connected_pair() as (first, second):
        job_on_nodes = JobOnNodes({1: first}, {})
        second.send(code=0)
        assert first.fileno() in [handle.fileno() for handle in job_on_nodes.handles()]
        job_on_nodes.stop(1.0)
        assert job_on_nodes.failed() is None
    with connected_pair() as (first, second):
        job_on_nodes = JobOnNodes({1: first}, {})
        second.send(code=-9, last_line="rank 1: killed by SIGKILL", log="stacks")
        job_on_nodes.stop(1.0)
        assert job_on_nodes.failed() == {
            "node": 1,
            "code": -9,
            "last_line": "rank 1: killed by SIGKILL",
            "log": "stacks",
        }


def test_logs_of_other_nodes_are_saved_beside_this_nodes_log(tmp_path):
    with connected_pair() as (first, second):
        job_on_nodes = JobOnNodes({1: first}, {})
        second.send(code=-9, log="stacks")
        job_on_nodes.stop(1.0)
        job_on_nodes.save_logs(tmp_path / "g.log")
    assert (tmp_path / "g.node1.log").read_text() == "stacks"


def test_log_that_cannot_be_written_is_one_line_with_a_remedy(tmp_path):
    with connected_pair() as (first, second):
        job_on_nodes = JobOnNodes({1: first}, {})
        second.send(code=-9, log="stacks")
        job_on_nodes.stop(1.0)
        with pytest.raises(StoreError, match=r"^cannot write .*g\.node1\.log: .*--results$"):
            job_on_nodes.save_logs(tmp_path / "removed" / "g.log")


def test_lost_node_raises_node_lost_with_its_number(monkeypatch):
    monkeypatch.setattr(nodes_module, "_STOP_S", 0.0)
    with connected_pair() as (first, second):
        job_on_nodes = JobOnNodes({1: first}, {})
        with pytest.raises(NodeLost, match="node 1 did not end its ranks within 0 s"):
            job_on_nodes.stop(0.0)
        second.close()
        with pytest.raises(NodeLost, match="node 1 is gone"):
            job_on_nodes.failed()
    assert NodeLost.exit_code == 3


def test_lost_names_only_a_disconnected_node():
    with connected_pair() as (first, second):
        both = Nodes({1: first}, {})
        second.send(code=0)
        assert both.lost() == ""
        second.close()
        assert both.lost().startswith("node 1 is gone")
        assert both.lost().startswith("node 1 is gone")


def test_follower_returns_the_exit_status_of_the_run():
    with connected_pair() as (first, second):
        exit_codes = []
        follower = threading.Thread(target=lambda: exit_codes.append(follow(second)), daemon=True)
        second.send(code=-9)  # a report that the run's end has overtaken
        follower.start()
        Nodes({1: first}, {}).end(3)
        follower.join(20)
        assert exit_codes == [3]


def test_follower_raises_node_lost_when_the_first_node_disconnects():
    with connected_pair() as (first, second):
        first.close()
        with pytest.raises(NodeLost, match="node 0 is gone"):
            follow(second)
