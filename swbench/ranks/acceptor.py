"""Where the first node lets the others in: whoever connects has a moment to say the word of the
run, and nobody waits for anybody else.
"""

import math
import select
import socket
import time
from collections.abc import Mapping
from typing import Any

from swbench.ranks.connection import Link, Lost

_HELLO_S = 10.0
"""How long one who has connected may take to say who it is: a follower says it in the same breath.
Heuristic.
"""

_REST_S = 0.1
"""How long nobody is let in after an attempt that failed. With no handle left a listener stays
readable, and poll would return at once for ever. Heuristic.
"""

_MOST = 64
"""Connections that have not said who they are; with more the longest silent one is let go.
Heuristic.
"""

Hello = Mapping[str, Any]


class Doorway:
    """A listening socket and those who have connected to it but not spoken."""

    def __init__(self, server: socket.socket) -> None:
        """`server` stays the caller's to close."""
        self._server = server
        server.setblocking(False)
        self._poll = select.poll()
        self._poll.register(server, select.POLLIN)
        self._shut_until: float | None = None
        self._silent: dict[int, tuple[Link, float]] = {}  # in the order in which they came

    def let_in(self, word: str, wanted: range, until: float) -> dict[int, tuple[Link, Hello]]:
        """Links to the nodes `wanted` with what each said of itself, once all are here; those who
        had come by `until` (of `time.monotonic`) otherwise.

        A node that comes again takes the place of its earlier connection. Everybody else is let go.
        """
        here: dict[int, tuple[Link, Hello]] = {}
        try:
            while len(here) < len(wanted) and (now := time.monotonic()) < until:
                deadline = min(
                    [
                        until,
                        self._opens(now),
                        *(since + _HELLO_S for _, since in self._silent.values()),
                    ]
                )
                for handle, _ in self._poll.poll(max(0.0, deadline - now) * 1000 + 1):
                    if handle == self._server.fileno():
                        self._accept()
                    elif (link := self._heard(handle, word, wanted, here)) is not None:
                        link.close()
                self._show_out()
        finally:
            for handle in list(self._silent):
                self._forget(handle).close()
        return here

    def _opens(self, now: float) -> float:
        """When the door opens again; it does so here where that is now. Infinite where it is
        open.
        """
        if self._shut_until is not None and now >= self._shut_until:
            self._poll.register(self._server, select.POLLIN)
            self._shut_until = None
        return math.inf if self._shut_until is None else self._shut_until

    def _accept(self) -> None:
        try:
            link = Link(self._server.accept()[0])
        # it has gone again, or there are no handles left: the silent ones give some back in time
        except OSError:
            self._poll.unregister(self._server)
            self._shut_until = time.monotonic() + _REST_S
            return
        self._poll.register(link, select.POLLIN)
        self._silent[link.fileno()] = link, time.monotonic()

    def _heard(
        self, handle: int, word: str, wanted: range, here: dict[int, tuple[Link, Hello]]
    ) -> Link | None:
        """Take what one says; the link to close for it, None where it has not said all or has come
        to stay.
        """
        if handle not in self._silent:
            return None  # let go since the poll
        try:
            hello = self._silent[handle][0].take()
        except Lost:
            return self._forget(handle)
        if hello is None:
            return None
        link, node = self._forget(handle), hello.get("node")
        if hello.get("word") != word or node not in wanted:
            return link  # not of this run
        before = here.get(node)
        here[node] = link, hello
        return before and before[0]

    def _show_out(self) -> None:
        """Let go who has been silent for too long."""
        now = time.monotonic()
        late = [handle for handle, (_, since) in self._silent.items() if now >= since + _HELLO_S]
        for handle in late or list(self._silent)[: max(0, len(self._silent) - _MOST)]:
            self._forget(handle).close()

    def _forget(self, handle: int) -> Link:
        self._poll.unregister(handle)
        return self._silent.pop(handle)[0]
