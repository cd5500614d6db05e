"""The rendezvous of nodes: those that torchrun's store names join, however many foreign connections
there are.
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
from swbench.ranks import nodes as nodes_module
from swbench.ranks import rendezvous
from swbench.ranks.connection import ConnectionLost
from swbench.ranks.nodes import Nodes
from swbench.ranks.rendezvous import Rendezvous


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
    """`join(1, processes=2)` -> the connection of a node that has joined."""
    with contextlib.ExitStack() as opened:

        def node(number, **hello):
            connection = Rendezvous(environ(store.port, number)).join(node=number, **hello)
            opened.callback(connection.close)
            return connection

        yield node


@pytest.fixture
def gather(store):
    """`gather(others, nodes, seconds)` -> connection and first message by node, on the first node,
    while `others` runs in a thread of its own.
    """
    with contextlib.ExitStack() as opened:

        def run(others, nodes=2, seconds=20.0):
            thread = threading.Thread(target=others, daemon=True)
            thread.start()
            rendezvous = Rendezvous(environ(store.port, 0))
            _, joined = rendezvous.gather(range(1, nodes), time.monotonic() + seconds)
            for connection, _ in joined.values():
                opened.callback(connection.close)
            thread.join(20)
            assert not thread.is_alive()
            return joined

        yield run


@pytest.fixture
def connect_stranger(store):
    """`connect_stranger(b"…")` -> a foreign connection that has sent these bytes to the first
    node.
    """
    with contextlib.ExitStack() as opened:

        def stranger(sent=b""):
            leader = json.loads(PrefixStore("swbench/x/0", store).get("leader"))
            client = opened.enter_context(socket.create_connection(leader))
            client.sendall(sent)
            return client

        yield stranger


def assert_closed(client):
    client.settimeout(20)
    with contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""


def test_node_joins_at_once_behind_thirty_silent_foreign_connections(
    gather, join, connect_stranger
):
    strangers, connections = [], []

    def others():
        strangers.extend(connect_stranger() for _ in range(30))
        connections.append(join(1, processes=4))

    joined = gather(others, seconds=1e6)
    assert joined[1][1]["processes"] == 4
    joined[1][0].send(do="end")
    assert connections[0].wait(20) == {"do": "end"}
    for stranger in strangers:
        assert_closed(stranger)


@pytest.mark.parametrize(
    "data",
    [
        b'{"node": 1, "processes": 4}\n',
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff\n",
        b"[]\n",
        b"x" * 1_000_000,
    ],
)
def test_data_from_foreign_connection_is_ignored(gather, join, connect_stranger, data):
    strangers = []

    def others():
        strangers.append(connect_stranger(data))
        join(1)

    assert list(gather(others)) == [1]
    assert_closed(strangers[0])


def test_foreign_connection_that_closes_at_once_is_ignored(gather, join, connect_stranger):
    def others():
        connect_stranger().close()
        join(1)

    assert list(gather(others)) == [1]


def test_node_that_joins_twice_replaces_its_first_connection(gather, join):
    connections = []

    def others():
        connections.extend(join(1, attempt=attempt) for attempt in (1, 2))
        join(2)

    joined = gather(others, nodes=3)
    assert joined[1][1]["attempt"] == 2
    assert sorted(joined) == [1, 2]
    with pytest.raises(ConnectionLost):
        connections[0].wait(20)
    assert connections[1].receive_nowait() is None


def test_gather_returns_only_the_nodes_that_joined_in_time(gather, join):
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


@pytest.mark.parametrize(("times", "tried", "expected"), [(3, 4, [1]), (10**9, 1, [])])
def test_accept_is_retried_until_a_file_descriptor_is_free(monkeypatch, times, tried, expected):
    """Where there never is one, the attempts rest instead of spinning."""
    monkeypatch.setattr(rendezvous, "_POLL_S", 0.01 if expected else 0.3)
    with (
        socket.create_server(("localhost", 0)) as server,
        socket.create_connection(server.getsockname()) as visitor,
    ):
        server_proxy = NoHandles(server, times)
        hello = {"node": 1, "address": visitor.getsockname()}
        until = time.monotonic() + (20 if expected else 0.2)
        accepted = rendezvous._accept_expected(server_proxy, [hello], until)
        for connection, _ in accepted.values():
            connection.close()
    assert (list(accepted), server_proxy.tried) == (expected, tried)


def test_address_is_equal_over_ipv4_and_mapped_ipv6():
    assert rendezvous._address(("::ffff:10.0.0.1", 5, 0, 0)) == ("10.0.0.1", 5)
    assert rendezvous._address(("10.0.0.1", 5)) == ("10.0.0.1", 5)
    assert rendezvous._address(("fe80::1%eth0", 5, 0, 2)) == ("fe80::1", 5)


def test_gather_names_how_many_nodes_joined_before_the_timeout(store, join, monkeypatch):
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
    monkeypatch.setattr(nodes_module, "JOIN_S", 0.1)
    with pytest.raises(NodeLost, match=r"1 of 3 nodes joined within 0\.1 s"):
        Nodes.gather(3, 2, environ(store.port, 0))


def test_store_lost_before_the_first_call_is_one_line_with_a_remedy():
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    port = store.port
    rendezvous = Rendezvous(environ(port, 0))
    del store
    with pytest.raises(
        NodeLost,
        match=(
            rf"^torchrun's store at localhost:{port} does not answer \(.*\); check "
            r".*--rdzv-endpoint.*$"
        ),
    ):
        rendezvous.gather(range(1, 2), time.monotonic() + 20)


def test_store_lost_during_set_is_the_same_line(monkeypatch):
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    rendezvous = Rendezvous(environ(store.port, 0))
    monkeypatch.setattr(rendezvous, "_own_host", lambda: "localhost")
    del store
    with pytest.raises(NodeLost, match=r"does not answer \(.+\); check"):
        rendezvous.gather(range(1, 2), time.monotonic() + 20)
