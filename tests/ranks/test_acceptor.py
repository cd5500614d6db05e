"""Who is let in: the nodes of the run at once, however many strangers stand in the door."""

import contextlib
import errno
import socket
import threading
import time

import pytest
from torch.distributed import TCPStore

from swbench.errors import NodeLost
from swbench.ranks import acceptor as doorway
from swbench.ranks import nodes as leading
from swbench.ranks.acceptor import Doorway
from swbench.ranks.connection import Link, Lost
from swbench.ranks.nodes import Nodes
from swbench.ranks.rendezvous import Meeting

WORD = "word"


@pytest.fixture
def server():
    with socket.create_server(("localhost", 0)) as server:
        yield server


@pytest.fixture
def knock(server):
    """`knock(word=…, node=…)`, or `knock()` for one who says nothing -> the visitor's end of the
    connection.
    """
    with contextlib.ExitStack() as opened:

        def visitor(**hello):
            link = Link(socket.create_connection(server.getsockname()))
            opened.callback(link.close)
            if hello:
                link.send(**hello)
            return link

        yield visitor


@pytest.fixture
def let_in(server):
    """`let_in(nodes, seconds)` -> what the doorway gives: node -> link and hello."""
    with contextlib.ExitStack() as opened:

        def wait(nodes=2, seconds=20.0):
            here = Doorway(server).let_in(WORD, range(1, nodes), time.monotonic() + seconds)
            for link, _ in here.values():
                opened.callback(link.close)
            return here

        yield wait


def is_out(visitor):
    with pytest.raises(Lost):
        visitor.wait(20)


def test_a_node_behind_thirty_silent_strangers_is_met_at_once(let_in, knock, monkeypatch):
    # one after the other they would take all the time there is
    monkeypatch.setattr(doorway, "_HELLO_S", 1e6)
    strangers = [knock() for _ in range(30)]
    follower = knock(word=WORD, node=1, processes=4)
    here = let_in()
    assert here[1][1] == {"word": WORD, "node": 1, "processes": 4}
    here[1][0].send(do="end")
    assert follower.wait(20) == {"do": "end"}
    for stranger in strangers:
        is_out(stranger)


@pytest.mark.parametrize(
    "hello",
    [
        {"word": "other", "node": 1},
        {"node": 1},
        {"word": WORD, "node": 2},
        {"word": WORD, "node": [1]},
        {"word": WORD},
    ],
)
def test_who_is_not_of_the_run_is_let_go_and_the_node_is_met(let_in, knock, hello):
    stranger = knock(**hello)
    knock(word=WORD, node=1)
    assert list(let_in()) == [1]
    is_out(stranger)


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\n", b"[]\n", b""])
def test_who_speaks_otherwise_or_leaves_is_no_harm(let_in, knock, said):
    stranger = knock()
    stranger._socket.sendall(said)
    if not said:
        stranger.close()
    knock(word=WORD, node=1)
    assert list(let_in()) == [1]


def test_a_hello_may_come_in_pieces(let_in, knock, monkeypatch):
    pieces, follower = [b'{"word": "wo', b'rd", "node": 1}', b"\n"], knock()
    take = Link.take

    def slowly(link):
        try:
            return take(link)
        finally:
            if pieces:
                follower._socket.sendall(pieces.pop(0))

    follower._socket.sendall(b" ")
    monkeypatch.setattr(Link, "take", slowly)
    assert list(let_in()) == [1]


def test_a_node_that_comes_again_takes_its_own_place(let_in, knock):
    first, second = knock(word=WORD, node=1, attempt=1), knock(word=WORD, node=1, attempt=2)
    third = knock()

    def follows():
        with contextlib.suppress(Lost):
            first.wait(20)  # out: the second has come
        third.send(word=WORD, node=2)

    thread = threading.Thread(target=follows, daemon=True)
    thread.start()
    here = let_in(nodes=3)
    thread.join(20)
    assert here[1][1]["attempt"] == 2
    assert sorted(here) == [1, 2]
    assert second.take() is None


def test_one_too_many_lets_the_one_go_who_has_been_silent_longest(let_in, knock, monkeypatch):
    monkeypatch.setattr(doorway, "_MOST", 3)
    crowd = [knock() for _ in range(3)]
    late = knock()

    def follows():
        is_out(crowd[0])
        late.send(word=WORD, node=1)

    thread = threading.Thread(target=follows, daemon=True)
    thread.start()
    assert list(let_in()) == [1]
    thread.join(20)
    assert not thread.is_alive()


def test_who_is_silent_too_long_is_let_go_before_all_are_here(let_in, knock, monkeypatch):
    monkeypatch.setattr(doorway, "_HELLO_S", 0.01)
    silent = knock()

    def follows():
        is_out(silent)
        knock(word=WORD, node=1)

    thread = threading.Thread(target=follows, daemon=True)
    thread.start()
    assert list(let_in()) == [1]
    thread.join(20)
    assert not thread.is_alive()


def test_who_has_come_by_the_end_is_told_apart_from_who_has_not(let_in, knock):
    knock(word=WORD, node=2)
    assert list(let_in(nodes=3, seconds=0.2)) == [2]


class NoHandles:
    """A listener whose first `times` attempts to let somebody in fail, as where the process has no
    handle left: the visitor stays in the queue.
    """

    def __init__(self, server, times):
        self._server, self.times, self.tried = server, times, 0
        self.fileno, self.setblocking = server.fileno, server.setblocking

    def accept(self):
        self.tried += 1
        if self.tried <= self.times:
            raise OSError(errno.EMFILE, "Too many open files")
        return self._server.accept()


def test_without_a_handle_the_door_rests_instead_of_spinning(server, knock, monkeypatch):
    monkeypatch.setattr(doorway, "_REST_S", 1e6)
    knock(word=WORD, node=1)
    full = NoHandles(server, times=10**9)
    assert Doorway(full).let_in(WORD, range(1, 2), time.monotonic() + 0.3) == {}
    assert full.tried == 1


def test_a_node_is_met_once_there_are_handles_again(server, knock, monkeypatch):
    monkeypatch.setattr(doorway, "_REST_S", 0.01)
    knock(word=WORD, node=1)
    full = NoHandles(server, times=3)
    here = Doorway(full).let_in(WORD, range(1, 2), time.monotonic() + 20)
    here[1][0].close()
    assert (list(here), full.tried) == ([1], 4)


def test_while_the_door_rests_who_is_in_is_heard(server, knock, monkeypatch):
    monkeypatch.setattr(doorway, "_REST_S", 1e6)
    inside = knock()

    class OneHandle(NoHandles):
        def accept(self):
            if self.tried:
                inside.send(word=WORD, node=1)  # the door is shut when it comes
                self.times = 2
            else:
                knock()
            return super().accept()

    here = Doorway(OneHandle(server, times=0)).let_in(WORD, range(1, 2), time.monotonic() + 20)
    here[1][0].close()
    assert list(here) == [1]


def environ(port, rank):
    return {
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "TORCHELASTIC_RUN_ID": "x",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }


def test_nodes_meet_at_the_door_and_those_that_do_not_come_are_counted(monkeypatch):
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    joined = []
    thread = threading.Thread(
        target=lambda: joined.append(Meeting(environ(store.port, 1)).join(node=1, processes=2)),
        daemon=True,
    )
    thread.start()
    nodes = Nodes.gather(2, 2, environ(store.port, 0))
    thread.join(20)
    assert nodes.lost() == ""
    joined[0].close()
    assert nodes.lost().startswith("node 1 is gone")
    nodes.end(0)
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
        meeting.listen()


def test_a_store_that_dies_while_it_is_told_is_the_same_line(monkeypatch):
    store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    meeting = Meeting(environ(store.port, 0))
    monkeypatch.setattr(meeting, "_own_host", lambda: "localhost")
    del store
    with pytest.raises(NodeLost, match=r"does not answer \(.+\); see"):
        meeting.listen()
