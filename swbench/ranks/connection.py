"""A TCP connection between two nodes that carries JSON lines. The kernel says when the other side
is gone, so neither side needs a heartbeat of its own.
"""

import json
import math
import socket
import struct
import time
from multiprocessing.connection import wait
from typing import Any

LONGEST_LINE = 16 * 2**20
"""Bytes without a line end after which the other side is taken to write garbage."""

_SEND_S = 30
"""How long the other side may leave what is sent to it unread; heuristic."""

_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}
"""A machine that lost its power or its network sends no end of the connection: it is gone after 30
s of silence. Heuristic.
"""


class Lost(Exception):
    """The other side is gone, or does not speak as it should."""


class Link:
    """One end. `fileno` is for `poll`: it is readable when `take` has something to give, or to
    raise.
    """

    def __init__(self, connected: socket.socket) -> None:
        self._socket, self._buffer = connected, bytearray()
        connected.settimeout(None)  # Python would wait for as long even where it is told not to
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_S, 0))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, **message: Any) -> None:
        """Raises Lost where nobody is there to take it."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as problem:
            raise Lost(str(problem)) from None

    def take(self) -> dict[str, Any] | None:
        """The next message, without waiting; None where there is no whole one yet. Raises Lost."""
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                data = self._socket.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as problem:
                raise Lost(str(problem)) from None
            self._buffer += data
            if not data or len(self._buffer) > LONGEST_LINE:
                raise Lost("the connection was closed" if not data else "bytes without end")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise Lost("no message")
        return message

    def wait(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The next message; None after `timeout_s`. Raises Lost."""
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while (message := self.take()) is None and (left_s := until - time.monotonic()) > 0:
            wait([self], None if timeout_s is None else left_s)
        return message

    def gone(self) -> str:
        """Why the other side is gone, in words; empty where it is not. What it has said is
        dropped.
        """
        try:
            while self.take() is not None:
                pass
        except Lost as problem:
            return str(problem)
        return ""

    def close(self) -> None:
        """Let the other side know that this is the end."""
        self._socket.close()
