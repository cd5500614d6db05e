"""How the nodes of a run find each other: through the store that torchrun's own rendezvous has set
up.
"""

import ipaddress
import json
import os
import secrets
import socket
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from swbench.errors import NodeLost
from swbench.ranks.connection import Link, Lost

JOIN_S = 300.0
"""How long nodes wait for each other at the start: torchrun's processes begin together, but each
may import from a cold disk. Heuristic.
"""


class Meeting:
    """torchrun's store, in which the first node says where it listens. Only here does the process
    that measures need torch.
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

    def listen(self) -> tuple[socket.socket, str, str]:
        """On the first node: a socket for the others, the host under which they reach it, and a
        word that they know it by. Raises NodeLost.
        """
        try:
            server = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        except (OSError, ValueError):
            server = socket.create_server(("", 0))
        word = secrets.token_hex(16)
        try:
            host = self._own_host()
            self._store.set("leader", json.dumps([host, server.getsockname()[1], word]))
            self._store.get("leader")  # a store that has died takes what is set without a word
        except (RuntimeError, OSError) as problem:
            server.close()
            raise self._unanswered(problem) from None
        return server, host, word

    def join(self, **hello: Any) -> Link:
        """On another node: a link to the first, which has been told `hello`. Raises NodeLost."""
        try:
            host, port, word = json.loads(self._store.get("leader"))
            link = Link(socket.create_connection((host, port), JOIN_S))
            link.send(word=word, **hello)
        except (RuntimeError, OSError, ValueError, Lost) as problem:
            raise NodeLost(
                f"the first node cannot be reached ({_first(problem)}); this one ends"
            ) from None
        return link

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


def _first(problem: BaseException) -> str:
    return " ".join(str(problem).split("\n")[0].split())[:200]
