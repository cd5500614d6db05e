"""How the nodes of a run find each other: through the store that torchrun's own rendezvous has set
up.
"""

import ipaddress
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeAlias

from swbench.errors import NodeLost
from swbench.ranks.connection import Link

JOIN_S = 300.0
"""How long nodes wait for each other at the start: torchrun's processes begin together, but each
may import from a cold disk. Heuristic.
"""

_BACKLOG = 1024
"""Connections that may wait to be accepted, strangers' among them; heuristic."""

_ADMIT_S = 10.0
"""How long the connections may take that the store names: they have been made. Heuristic."""

_REST_S = 0.1
"""How long a look for who has come is put off after one in vain; heuristic."""

Hello: TypeAlias = Mapping[str, Any]
"""What a node says of itself."""


class Meeting:
    """torchrun's store: in it the first node says where it listens, and the others which address
    they have connected from. Only here does the process that measures need torch.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        """Raises NodeLost where the store cannot be reached."""
        from torch.distributed import PrefixStore, TCPStore

        self._host, self._port = environ["MASTER_ADDR"], int(environ["MASTER_PORT"])
        self.leads = environ["RANK"] == "0"
        hosted = environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        begun = "/".join(
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
                is_master=self.leads and not hosted,
                timeout=timedelta(seconds=JOIN_S),
                wait_for_workers=False,
            )
        except RuntimeError as problem:  # torch's store errors are all of this kind
            raise self._unanswered(problem) from None
        self._store = PrefixStore(begun, store)

    def gather(self, wanted: range, until: float) -> tuple[str, dict[int, tuple[Link, Hello]]]:
        """On the first node: the host under which others reach it, and links to those of the nodes
        `wanted` that have come by `until` (of `time.monotonic`), with what each said of itself.

        Nothing is read from a connection that the store does not name, so strangers are no harm.
        Raises NodeLost where the store does not answer.
        """
        keys = [f"node{node}" for node in wanted]
        with _listening() as server:
            try:
                host = self._own_host()
                self._store.set("leader", json.dumps([host, server.getsockname()[1]]))
                while not self._store.check(keys) and time.monotonic() < until:
                    time.sleep(_REST_S)
                hellos = [
                    json.loads(self._store.get(key)) for key in keys if self._store.check([key])
                ]
            except (RuntimeError, OSError) as problem:
                raise self._unanswered(problem) from None
            return host, _admitted(server, hellos, time.monotonic() + _ADMIT_S)

    def join(self, *, node: int, **hello: Any) -> Link:
        """On another `node`: a link to the first, which learns `hello` and the address of this end
        from the store. Raises NodeLost.
        """
        try:
            connected = socket.create_connection(json.loads(self._store.get("leader")), JOIN_S)
            said = {"node": node, "address": _address(connected.getsockname()), **hello}
            self._store.set(f"node{node}", json.dumps(said))
        except (RuntimeError, OSError, ValueError) as problem:
            raise NodeLost(
                f"the first node cannot be reached ({_first(problem)}); this one ends"
            ) from None
        return Link(connected)

    def _unanswered(self, problem: BaseException) -> NodeLost:
        where = f"torchrun's store at {self._host}:{self._port} does not answer ({_first(problem)})"
        return NodeLost(
            f"{where}; see that torchrun still runs on its node and that "
            "--rdzv-endpoint (or --master-addr and --master-port) names it"
        )

    def _own_host(self) -> str:
        """The address from which this node reaches torchrun's store; the store's own name where
        that is here.
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


def _admitted(
    server: socket.socket, hellos: Sequence[Hello], until: float
) -> dict[int, tuple[Link, Hello]]:
    """By node, the connections from the addresses that `hellos` name; all others are closed."""
    expected = {tuple(hello["address"]): hello for hello in hellos}
    found: dict[int, tuple[Link, Hello]] = {}
    while expected and (left_s := until - time.monotonic()) > 0:
        server.settimeout(left_s)
        try:
            visitor, address = server.accept()
        except OSError:  # gone again, or no handle is left
            time.sleep(_REST_S)
            continue
        if (hello := expected.pop(_address(address), None)) is None:
            visitor.close()
        else:
            found[hello["node"]] = Link(visitor), hello
    return found


def _address(name: Sequence[Any]) -> tuple[str, int]:
    """Host and port of a socket's name, alike on both ends and for IPv4 within IPv6."""
    return name[0].removeprefix("::ffff:").partition("%")[0], name[1]


def _first(problem: BaseException) -> str:
    return " ".join(str(problem).split("\n")[0].split())[:200]
