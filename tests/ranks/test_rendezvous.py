"""How nodes find each other: those that torchrun's store names are met, however many strangers
connect beside them.
"""

import contextlib
import errno
import json
import socket
import threading
import time

import pytest
from torch.distributed import PrefixStore, TCPStore

from swbench.errors import NodeLost
from swbench.ranks import nodes as leading
from swbench.ranks import rendezvous
from swbench.ranks.connection import Lost
from swbench.ranks.nodes import Nodes
from swbench.ranks.rendezvous import Meeting


def environ(port, rank):
    return {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "TORCHELASTIC_RUN_ID": "x",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


@pytest.fixture
def store():
    return TCPStore("localhost", 0, is_master=True, wait_for_workers=False)


@pytest.fixture
def join(store):
    """`join(1, processes=2)` -> the link of a node that has joined, once the first one listens."""
    with contextlib.ExitStack() as opened:

        def node(number, **hello):
            link = Meeting(environ(store.port, number)).join(node=number, **hello)
            opened.callback(link.close)
            return link

        yield node


@pytest.fixture
def gather(store):
    """`gather(others, nodes, seconds)` -> what the first node is told by node, while `others` run
    in a thread of their own.
    """
    with contextlib.ExitStack() as opened:

        def run(others, nodes=2, seconds=20.0):
            thread = threading.Thread(target=others, daemon=True)
            thread.start()
            meeting = Meeting(environ(store.port, 0))
            _, here = meeting.gather(range(1, nodes), time.monotonic() + seconds)
            for link, _ in here.values():
                opened.callback(link.close)
            thread.join(20)
            assert not thread.is_alive()
            return here

        yield run


@pytest.fixture
def knock(store):
    """`knock(b"…")` -> the connection of a stranger who has said that to the first node."""
    with contextlib.ExitStack() as opened:

        def stranger(said=b""):
            leader = json.loads(PrefixStore("swbench/x/0", store).get("leader"))
            visitor = opened.enter_context(socket.create_connection(leader))
            visitor.sendall(said)
            return visitor

        yield stranger


def is_out(visitor):
    visitor.settimeout(20)
    with contextlib.suppress(ConnectionResetError):
        assert visitor.recv(1) == b""


def test_a_node_behind_thirty_silent_strangers_is_met_at_once(gather, join, knock):
    strangers, links = [], []

    def others():
        strangers.extend(knock() for _ in range(30))
        links.append(join(1, processes=4))

    here = gather(others, seconds=1e6)
    assert here[1][1]["processes"] == 4
    here[1][0].send(do="end")
    assert links[0].wait(20) == {"do": "end"}
    for stranger in strangers:
        is_out(stranger)


@pytest.mark.parametrize(
    "said",
    [
        b'{"node": 1, "processes": 4}\n',
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\n",
        b"[]\n",
        b"x" * 1_000_000,
    ],
)
def test_whatever_a_stranger_says_is_no_harm_and_the_node_is_met(gather, join, knock, said):
    strangers = []

    def others():
        strangers.append(knock(said))
        join(1)

    assert list(gather(others)) == [1]
    is_out(strangers[0])


def test_a_stranger_who_leaves_at_once_is_no_harm(gather, join, knock):
    def others():
        knock().close()
        join(1)

    assert list(gather(others)) == [1]


def test_a_node_that_comes_again_takes_its_own_place(gather, join):
    links = []

    def others():
        links.extend(join(1, attempt=attempt) for attempt in (1, 2))
        join(2)

    here = gather(others, nodes=3)
    assert here[1][1]["attempt"] == 2
    assert sorted(here) == [1, 2]
    with pytest.raises(Lost):
        links[0].wait(20)
    assert links[1].take() is None


def test_a_node_that_has_come_is_told_apart_from_one_that_has_not(gather, join):
    assert list(gather(lambda: join(2), nodes=3, seconds=1.0)) == [2]


class NoHandles:
    """A listener whose first `times` attempts to accept fail, as where the process has no handle
    left: the visitor stays in the queue.
    """

    def __init__(self, server, times):
        self._server, self.times, self.tried = server, times, 0

    def __getattr__(self, name):
        return getattr(self._server, name)

    def accept(self):
        self.tried += 1
        if self.tried <= self.times:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._server.accept()


@pytest.mark.parametrize(("times", "tried", "met"), [(3, 4, [1]), (10**9, 1, [])])
def test_without_a_handle_nobody_is_accepted_until_there_is_one_again(
    monkeypatch, times, tried, met
):
    """Where there never is one, the attempts rest instead of spinning."""
    monkeypatch.setattr(rendezvous, "_REST_S", 0.01 if met else 0.3)
    with (
        socket.create_server(("localhost", 0)) as server,
        socket.create_connection(server.getsockname()) as visitor,
    ):
        full = NoHandles(server, times)
        hello = {"node": 1, "address": visitor.getsockname()}
        until = time.monotonic() + (20 if met else 0.2)
        here = rendezvous._admitted(full, [hello], until)
        for link, _ in here.values():
            link.close()
    assert (list(here), full.tried) == (met, tried)


def test_one_address_is_alike_over_ipv4_and_within_ipv6():
    assert rendezvous._address(("::ffff:10.0.0.1", 5, 0, 0)) == ("10.0.0.1", 5)
    assert rendezvous._address(("10.0.0.1", 5)) == ("10.0.0.1", 5)
    assert rendezvous._address(("fe80::1%eth0", 5, 0, 2)) == ("fe80::1", 5)


def test_nodes_that_come_are_met_and_those_that_do_not_are_counted(store, join, monkeypatch):
    joined = []
    thread = threading.Thread(target=lambda: joined.append(join(1, processes=2)), daemon=True)
    thread.start()
    nodes = Nodes.gather(2, 2, environ(store.port, 0))
    thread.join(20)
    assert nodes.lost() == ""
    joined[0].close()
    assert nodes.lost().startswith("node 1 is gone")
    nodes.end(0)
    PrefixStore("swbench/x/0", store).delete_key("node1")
    monkeypatch.setattr(leading, "JOIN_S", 0.1)
    with pytest.raises(NodeLost, match=r"1 of 3 nodes came within 0\.1 s"):
        Nodes.gather(3, 2, environ(store.port, 0))


def test_a_store_that_dies_before_the_nodes_have_met_is_one_line_with_a_remedy():
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    port = store.port
    meeting = Meeting(environ(port, 0))
    del store
    with pytest.raises(
        NodeLost,
        match=(
            rf"^torchrun's store at localhost:{port} does not answer \(.*\); see "
            r".*--rdzv-endpoint.*$"
        ),
    ):
        meeting.gather(range(1, 2), time.monotonic() + 20)


def test_a_store_that_dies_while_it_is_told_is_the_same_line(monkeypatch):
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    meeting = Meeting(environ(store.port, 0))
    monkeypatch.setattr(meeting, "_own_host", lambda: "localhost")
    del store
    with pytest.raises(NodeLost, match=r"does not answer \(.+\); see"):
        meeting.gather(range(1, 2), time.monotonic() + 20)
