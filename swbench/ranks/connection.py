"""A TCP connection between two nodes that carries JSON lines. The kernel reports a lost peer, so no
heartbeat is needed.
"""

import json
import math
import socket
import struct
import time
from multiprocessing.connection import wait
from typing import Any

LONGEST_LINE = 16 * 2**20
"""Bytes without a line end after which the connection counts as lost."""

_SEND_S = 30
"""Timeout of a send that the peer does not read; heuristic."""

_KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 30_000}
"""A machine without power or network sends no FIN: the connection is lost after 30 s of silence.
Heuristic.
"""


class ConnectionLost(Exception):
    """The peer is gone, or sent something that is not a message."""


class Connection:
    """One end of the connection. `fileno` is for `poll`: it is readable when `receive_nowait` would
    return a message or raise.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket, self._buffer = sock, bytearray()
        sock.settimeout(None)  # with a Python timeout even MSG_DONTWAIT would wait
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_S, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE.items():
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, **message: Any) -> None:
        """Send one message. Raises ConnectionLost where the peer is gone."""
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as problem:
            raise ConnectionLost(str(problem)) from None

    def receive_nowait(self) -> dict[str, Any] | None:
        """The next message, without waiting; None where no complete one has arrived. Raises
        ConnectionLost.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            try:
                data = self._socket.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as problem:
                raise ConnectionLost(str(problem)) from None
            self._buffer += data
            if not data or len(self._buffer) > LONGEST_LINE:
                raise ConnectionLost(
                    "the connection was closed" if not data else "bytes without end"
                )
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise ConnectionLost("no message")
        return message

    def wait(self, timeout_s: float | None = None) -> dict[str, Any] | None:
        """The next message; None after `timeout_s`. Raises ConnectionLost."""
        until = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while (message := self.receive_nowait()) is None and (
            left_s := until - time.monotonic()
        ) > 0:
            wait([self], None if timeout_s is None else left_s)
        return message

    def loss_reason(self) -> str:
        """Why the connection is lost, in words; empty where it is not. Discards messages that have
        arrived.
        """
        try:
            while self.receive_nowait() is not None:
                pass
        except ConnectionLost as problem:
            return str(problem)
        return ""

    def close(self) -> None:
        """Close the connection; the peer sees its end."""
        self._socket.close()
