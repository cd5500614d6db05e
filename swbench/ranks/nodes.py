"""The other machines of a run, as the first one sees them: it says what their ranks measure next
and learns how these end.
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
from swbench.ranks.connection import Link, Lost
from swbench.ranks.rendezvous import JOIN_S, Meeting
from swbench.store.files import write_whole
from swbench.worker.job import Job

_STOP_S = 40.0
"""How long a node may take to end its ranks, dumps of their stacks included; heuristic."""


class Nodes:
    """Links to the followers. Node 0 is this one; the others are numbered as torchrun numbers
    them.
    """

    def __init__(
        self,
        links: Mapping[int, Link],
        hellos: Mapping[int, Mapping[str, Any]],
        host: str = "localhost",
    ) -> None:
        """`hellos` are what the nodes said of themselves, `host` is where their ranks find this
        one.
        """
        self._links, self._hellos, self._host = dict(links), dict(hellos), host

    @classmethod
    def gather(cls, count: int, processes: int, environ: Mapping[str, str] = os.environ) -> "Nodes":
        """Wait for `count` - 1 followers of as many `processes` each. Raises NodeLost where one
        does not come.
        """
        meeting = Meeting(environ)  # which holds the store where torchrun does not
        host, here = meeting.gather(range(1, count), time.monotonic() + JOIN_S)
        links, hellos = (
            {node: link for node, (link, _) in here.items()},
            {node: hello for node, (_, hello) in here.items()},
        )
        if len(links) < count - 1:
            cls(links, hellos).end(NodeLost.exit_code)
            raise NodeLost(
                f"{len(links) + 1} of {count} nodes came within {JOIN_S:g} s; see what "
                "torchrun says on the others"
            )
        if odd := [node for node, hello in hellos.items() if hello.get("processes") != processes]:
            cls(links, hellos).end(2)
            raise UnlikeEnvironments(
                f"node {odd[0]} has {hellos[odd[0]].get('processes')} processes and node 0 "
                f"{processes}; give all the same --nproc-per-node"
            )
        return cls(links, hellos, host)

    def compare(
        self,
        environment: Mapping[str, Any],
        plugins: Sequence[Plugin] = (),
        *,
        anyway: bool = False,
    ) -> dict[int, list[str]]:
        """What differs from this node, by node, as far as it changes timings. Raises
        UnlikeEnvironments for any unless `anyway`.
        """
        found = {}
        for node, hello in sorted(self._hellos.items()):
            other = hello.get("environment") or {}
            lines = unlike(environment, other)
            codes = [(one.get("code") or {}) for one in (environment, other)]
            if codes[0].get("sources") != codes[1].get("sources"):
                versions = [str(code.get("commit") or code.get("sources"))[:12] for code in codes]
                lines.insert(0, f"swbench's sources: {' / '.join(versions)}")
            if hello.get("plugins") != digests(plugins):
                lines.insert(0, "what --plugin and --model name")
            if lines:
                found[node] = lines
        if found and not anyway:
            node, lines = next(iter(found.items()))
            more = f" … and {len(lines) - 4} more" if len(lines) > 4 else ""
            others = f" (so do {len(found) - 1} other nodes)" if len(found) > 1 else ""
            raise UnlikeEnvironments(
                f"node {node} differs from node 0{others}: "
                f"{'; '.join(lines[:4])}{more}. Make them alike, or measure with "
                "--anyway"
            )
        return found

    def begin(self, job: Job, plugins: Sequence[Plugin] = ()) -> "Share":
        """Have the other nodes of `job` start their ranks. Raises NodeLost."""
        with socket.create_server(("", 0)) as free:
            port = free.getsockname()[1]
        host = f"[{self._host}]" if ":" in self._host else self._host
        place = {"nodes": job.nodes, "endpoint": f"{host}:{port}", "run_id": uuid.uuid4().hex}
        share = Share(
            {node: link for node, link in self._links.items() if node < job.nodes},
            {**place, "node": 0},
        )
        for node, link in share.links.items():
            with _speaking_to(node):
                link.send(
                    do="start",
                    job=job.to_json(),
                    plugins=to_json(plugins),
                    place={**place, "node": node},
                )
        return share

    def lost(self) -> str:
        """Which node is gone, in words; empty where none is."""
        return next(
            (_gone(node, why) for node, link in self._links.items() if (why := link.gone())), ""
        )

    def end(self, code: int) -> None:
        """Let the followers go, each with the exit status of the run, and wait until they have
        heard of it.
        """
        for link in self._links.values():
            try:
                link.send(do="end", code=code)
                while not (link.wait(_STOP_S) or {"ended": True}).get("ended"):
                    pass  # a report that nobody waits for any more
            except Lost:
                pass  # its connection closed: it has gone
            link.close()


class Share:
    """What the other nodes do of one job. `place` is what this node's launcher has to know."""

    def __init__(self, links: Mapping[int, Link], place: Mapping[str, Any]) -> None:
        self.links, self.place = links, place
        self._reports: dict[int, dict[str, Any]] = {}

    def handles(self) -> list[Link]:
        """What becomes readable when a node has something to say or is lost."""
        return list(self.links.values())

    def failed(self) -> dict[str, Any] | None:
        """The report of the first node whose ranks have failed by themselves; None where none has.
        Raises NodeLost.
        """
        for node, link in self.links.items():
            with _speaking_to(node):
                if (message := link.take()) is not None:
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
        """End the ranks of all nodes, after `grace_s` in which they may end by themselves; `dump`
        has them write their stacks first. Raises NodeLost.
        """
        for node, link in self.links.items():
            with _speaking_to(node):
                link.send(do="stop", grace_s=grace_s, dump=dump)
        for node, link in self.links.items():
            with _speaking_to(node):
                if (
                    node not in self._reports
                    and (message := link.wait(grace_s + _STOP_S)) is not None
                ):
                    self._reports[node] = message
            if node not in self._reports:
                raise NodeLost(f"node {node} did not end its ranks within {grace_s + _STOP_S:g} s")

    def keep_logs(self, log: Path) -> None:
        """Beside this node's `log`, what the ranks of the others wrote, a file a node that has
        anything to say. Raises StoreError.
        """
        for node, report in self._reports.items():
            if text := str(report.get("log") or ""):
                write_whole(log.with_suffix(f".node{node}.log"), text)


@contextmanager
def _speaking_to(node: int) -> Iterator[None]:
    """Within it, a link that is lost is the end of the run, and the message names the node."""
    try:
        yield
    except Lost as problem:
        raise NodeLost(_gone(node, str(problem))) from None


def _gone(node: int, why: str) -> str:
    return f"node {node} is gone ({why}; torchrun there may say why)"
