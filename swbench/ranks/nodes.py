"""The other nodes of a run, as the first one drives them: it starts and stops their ranks and reads
their reports.
"""

import os
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swbench.errors import NodeLost, UnlikeEnvironments
from swbench.machine.environment import unlike
from swbench.plugins import Plugin, digests, to_json
from swbench.ranks.connection import Connection, ConnectionLost
from swbench.ranks.rendezvous import JOIN_S, Rendezvous
from swbench.store.files import write_atomic
from swbench.worker.job import Job

_STOP_S = 40.0
"""Timeout for a node to end its ranks, stack dumps included; heuristic."""


class Nodes:
    """Connections to the followers. Node 0 is this one; the others have torchrun's numbers."""

    def __init__(
        self,
        connections: Mapping[int, Connection],
        hellos: Mapping[int, Mapping[str, Any]],
        host: str = "localhost",
    ) -> None:
        """`hellos` hold by node its first message, and `host` is the address of this node for the
        others' ranks.
        """
        self._connections, self._hellos, self._host = dict(connections), dict(hellos), host

    @classmethod
    def gather(cls, count: int, processes: int, environ: Mapping[str, str] = os.environ) -> "Nodes":
        """Wait for `count` - 1 followers of `processes` processes each. Raises NodeLost where one
        does not join in time, UnlikeEnvironments where their numbers of processes differ.
        """
        rendezvous = Rendezvous(environ)  # it holds the store where torchrun does not
        host, joined = rendezvous.gather(range(1, count), time.monotonic() + JOIN_S)
        connections, hellos = (
            {node: connection for node, (connection, _) in joined.items()},
            {node: hello for node, (_, hello) in joined.items()},
        )
        if len(connections) < count - 1:
            cls(connections, hellos).end(NodeLost.exit_code)
            raise NodeLost(
                f"{len(connections) + 1} of {count} nodes joined within {JOIN_S:g} s; read "
                "torchrun's output on the others"
            )
        if mismatched := [
            node for node, hello in hellos.items() if hello.get("processes") != processes
        ]:
            cls(connections, hellos).end(2)
            raise UnlikeEnvironments(
                f"node {mismatched[0]} has {hellos[mismatched[0]].get('processes')} processes and "
                "node 0 "
                f"{processes}; give all the same --nproc-per-node"
            )
        return cls(connections, hellos, host)

    def compare(
        self,
        environment: Mapping[str, Any],
        plugins: Sequence[Plugin] = (),
        *,
        anyway: bool = False,
    ) -> dict[int, list[str]]:
        """The differences from this node that change timings, by node. Raises UnlikeEnvironments
        where there are any, unless `anyway`.
        """
        differences = {}
        for node, hello in sorted(self._hellos.items()):
            other = hello.get("environment") or {}
            lines = unlike(environment, other)
            codes = [(record.get("code") or {}) for record in (environment, other)]
            if codes[0].get("sources") != codes[1].get("sources"):
                versions = [str(code.get("commit") or code.get("sources"))[:12] for code in codes]
                lines.insert(0, f"swbench's sources: {' / '.join(versions)}")
            if hello.get("plugins") != digests(plugins):
                lines.insert(0, "what --plugin and --model name")
            if lines:
                differences[node] = lines
        if differences and not anyway:
            node, lines = next(iter(differences.items()))
            more = f" … and {len(lines) - 4} more" if len(lines) > 4 else ""
            others = f" (so do {len(differences) - 1} other nodes)" if len(differences) > 1 else ""
            raise UnlikeEnvironments(
                f"node {node} differs from node 0{others}: "
                f"{'; '.join(lines[:4])}{more}. Make them equal, or measure with "
                "--anyway"
            )
        return differences

    def begin(self, job: Job, plugins: Sequence[Plugin] = ()) -> "JobOnNodes":
        """Start the ranks of `job` on its other nodes. Raises NodeLost."""
        with socket.create_server(("", 0)) as server:
            port = server.getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        place = {"nodes": job.nodes, "endpoint": f"{host}:{port}", "run_id": uuid.uuid4().hex}
        share = JobOnNodes(
            {
                node: connection
                for node, connection in self._connections.items()
                if node < job.nodes
            },
            {**place, "node": 0},
        )
        for node, connection in share.connections.items():
            with _naming_node(node):
                connection.send(
                    do="start",
                    job=job.to_json(),
                    plugins=to_json(plugins),
                    place={**place, "node": node},
                )
        return share

    def lost(self) -> str:
        """Which node is lost and why, in words; empty where none is."""
        return next(
            (
                _loss_message(node, why)
                for node, connection in self._connections.items()
                if (why := connection.loss_reason())
            ),
            "",
        )

    def end(self, code: int) -> None:
        """End every follower with `code`, the exit status of the run, and wait for its answer."""
        for connection in self._connections.values():
            try:
                connection.send(do="end", code=code)
                while not (connection.wait(_STOP_S) or {"ended": True}).get("ended"):
                    pass  # a report that nobody waits for any more
            except ConnectionLost:
                pass  # its connection closed: it has gone
            connection.close()


class JobOnNodes:
    """One job on the other nodes. `place` holds the launcher arguments of this node."""

    def __init__(self, connections: Mapping[int, Connection], place: Mapping[str, Any]) -> None:
        self.connections, self.place = connections, place
        self._reports: dict[int, dict[str, Any]] = {}

    def handles(self) -> list[Connection]:
        """The connections, which become readable when a node reports or is lost."""
        return list(self.connections.values())

    def failed(self) -> dict[str, Any] | None:
        """The report of the lowest node whose ranks have failed, or None. Raises NodeLost."""
        for node, connection in self.connections.items():
            with _naming_node(node):
                if (message := connection.receive_nowait()) is not None:
                    self._reports[node] = message
        return next(
            (
                {"node": node, **report}
                for node, report in sorted(self._reports.items())
                if report.get("code")
            ),
            None,
        )

    def stop(self, grace_s: float, *, dump: bool = False) -> None:
        """Stop the ranks of all nodes after `grace_s` seconds, in which they may end by themselves;
        with `dump` they write their stacks first. Raises NodeLost.
        """
        for node, connection in self.connections.items():
            with _naming_node(node):
                connection.send(do="stop", grace_s=grace_s, dump=dump)
        for node, connection in self.connections.items():
            with _naming_node(node):
                if (
                    node not in self._reports
                    and (message := connection.wait(grace_s + _STOP_S)) is not None
                ):
                    self._reports[node] = message
            if node not in self._reports:
                raise NodeLost(f"node {node} did not end its ranks within {grace_s + _STOP_S:g} s")

    def save_logs(self, log: Path) -> None:
        """Write the logs of the other nodes beside this node's `log`, one file for each that is not
        empty. Raises StoreError.
        """
        for node, report in self._reports.items():
            if text := str(report.get("log") or ""):
                write_atomic(log.with_suffix(f".node{node}.log"), text)


@contextmanager
def _naming_node(node: int) -> Iterator[None]:
    """Turn a ConnectionLost inside into the NodeLost that names the node."""
    try:
        yield
    except ConnectionLost as problem:
        raise NodeLost(_loss_message(node, str(problem))) from None


def _loss_message(node: int, why: str) -> str:
    return f"node {node} is gone ({why}; torchrun there may say why)"
