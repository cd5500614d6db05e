"""The rendezvous of the nodes of a run, over the store of torchrun's own rendezvous."""

import ipaddress
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from swbench.errors import NodeLost
from swbench.ranks.connection import Connection

JOIN_S = 300.0
"""Timeout for all nodes to join: torchrun's processes begin together, but each may import from a
cold disk. Heuristic.
"""

_BACKLOG = 1024
"""Connections that may wait to be accepted, foreign ones included; heuristic."""

_ACCEPT_S = 10.0
"""Timeout to accept the connections that the store names, which have been made. Heuristic."""

_POLL_S = 0.1
"""Pause before the next attempt after one without result; heuristic."""

Hello: TypeAlias = Mapping[str, Any]
"""The first message of a node: its number, address, processes, environment and plugins."""


class Rendezvous:
    """The exchange of addresses in torchrun's store: the first node writes where it listens, the
    others which address they have connected from. Nothing else in the measuring process needs
    torch.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Raises NodeLost where the store cannot be reached."""
        from torch.distributed import PrefixStore, TCPStore

        self._host, self._port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
        self.is_leader = environ["RANK"] == "0"
        hosted = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        prefix = "/".join(
            (
                "swbench",
                environ["TORCHELASTIC_RUN_ID"],
                environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
            )
        )
        try:
            store = TCPStore(
                self._host,
                self._port,
                is_master=self.is_leader and not hosted,
                timeout=timedelta(seconds=JOIN_S),
                wait_for_workers=False,
            )
        except RuntimeError as problem:  # torch's store errors are all of this kind
            raise self._no_answer(problem) from None
        self._store = PrefixStore(prefix, store)

    def gather(
        self, wanted: range, until: float
    ) -> tuple[str, dict[int, tuple[Connection, Hello]]]:
        """On the first node: the host under which the others reach it and, by node, connection and
        first message of those of `wanted` that have joined by `until` (of `time.monotonic`).

        Nothing is read from a connection that the store does not name, so foreign connections do no
        harm. Raises NodeLost where the store does not answer.
        """
        keys = [f"node{node}" for node in wanted]
        with _listening() as server:
            try:
                host = self._own_host()
                self._store.set("leader", json.dumps([host, server.getsockname()[1]]))
                while not self._store.check(keys) and time.monotonic() < until:
                    time.sleep(_POLL_S)
                hellos = [
                    json.loads(self._store.get(key)) for key in keys if self._store.check([key])
                ]
            except (RuntimeError, OSError) as problem:
                raise self._no_answer(problem) from None
            return host, _accept_expected(server, hellos, time.monotonic() + _ACCEPT_S)

    def join(self, *, node: int, **hello: Any) -> Connection:
        """On another `node`: a connection to the first, which reads `hello` and the address of this
        end from the store. Raises NodeLost.
        """
        try:
            sock = socket.create_connection(json.loads(self._store.get("leader")), JOIN_S)
            handshake = {"node": node, "address": _address(sock.getsockname()), **hello}
            self._store.set(f"node{node}", json.dumps(handshake))
        except (RuntimeError, OSError, ValueError) as problem:
            raise NodeLost(
                f"the first node cannot be reached ({_first_line(problem)}); this one ends"
            ) from None
        return Connection(sock)

    def _no_answer(self, problem: BaseException) -> NodeLost:
        store = f"torchrun's store at {self._host}:{self._port}"
        return NodeLost(
            f"{store} does not answer ({_first_line(problem)}); check that torchrun still runs on "
            "its node and that "
            "--rdzv-endpoint (or --master-addr and --master-port) names it"
        )

    def _own_host(self) -> str:
        """The address of this node on its route to torchrun's store; the store's own name where the
        store is on this node.
        """
        with socket.create_connection((self._host, self._port), JOIN_S) as probe:
            own = probe.getsockname()[0]
        return self._host if ipaddress.ip_address(own).is_loopback else own.removeprefix("::ffff:")


def _listening() -> socket.socket:
    try:
        return socket.create_server(
            ("", 0), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True
        )
    except (OSError, ValueError):
        return socket.create_server(("", 0), backlog=_BACKLOG)


def _accept_expected(
    server: socket.socket, hellos: Sequence[Hello], until: float
) -> dict[int, tuple[Connection, Hello]]:
    """Accept the connections from the addresses that `hellos` name, and close all others; returns
    connection and first message by node.
    """
    expected = {tuple(hello["address"]): hello for hello in hellos}
    accepted: dict[int, tuple[Connection, Hello]] = {}
    while expected and (left_s := until - time.monotonic()) > 0:
        server.settimeout(left_s)
        try:
            client, address = server.accept()
        except OSError:  # gone again, or no handle is left
            time.sleep(_POLL_S)
            continue
        if (hello := expected.pop(_address(address), None)) is None:
            client.close()
        else:
            accepted[hello["node"]] = Connection(client), hello
    return accepted


def _address(name: Sequence[Any]) -> tuple[str, int]:
    """Host and port of a socket's name, equal on both ends and for IPv4 mapped into IPv6."""
    return name[0].removeprefix("::ffff:").partition("%")[0], name[1]


def _first_line(problem: BaseException) -> str:
    return " ".join(str(problem).split("\n")[0].split())[:200]
