"""A worker of several ranks: torch's elastic launcher in a process that ends as the first rank that
failed: `python -m swbench.ranks.launcher`.
"""

import json
import os
import signal
import sys
import uuid
from typing import Any

import psutil

from swbench.worker.job import Job
from swbench.worker.main import prepare, tie_to

_INHERITED = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "ROLE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)

_MEET_S = 120
"""How long the launchers of several nodes wait for each other; heuristic."""


def main() -> None:
    """Start the ranks of the job on stdin and wait for them. Their output is this process's, which
    is the job's log.
    """
    order = read_order()
    for name in ("report", "ack", "page"):
        # rank 0 takes them from here; a rank that outlives the others must not hold them open
        os.set_inheritable(order[name], False)
    tie_to(order["parent"])
    prepare()
    for name in [
        name
        for name in os.environ
        if name in _INHERITED or name.startswith(("TORCHELASTIC_", "GROUP_", "ROLE_"))
    ]:
        del os.environ[name]  # of the torchrun that we may run under ourselves
    if failed := launch(Job.from_json(order["job"]).world, order["scratch"], **order["place"]):
        _end_as(*failed)


def read_order() -> dict[str, Any]:
    """What stdin holds, a file that every rank inherits: read by position, for they share its
    offset.
    """
    return json.loads(os.pread(0, os.fstat(0).st_size, 0))


def launch(
    world: int, scratch: str, *, node: int = 0, nodes: int = 1, endpoint: str = "", run_id: str = ""
) -> tuple[int, Any] | None:
    """Run this node's part of `world` ranks to their end; the number and the failure of the first
    that failed, or None.

    Of several `nodes` each runs a launcher, which find each other by the same `run_id` at
    `endpoint` (host:port), a store that node 0's holds.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    signal.signal(signal.SIGABRT, _abort_ranks)
    alone = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
    together = {
        "rdzv_backend": "static",
        "rdzv_endpoint": endpoint,
        "rdzv_configs": {"rank": node, "timeout": _MEET_S},
    }
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=world // nodes,
        run_id=run_id or uuid.uuid4().hex,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=scratch),
        **(alone if nodes == 1 else together),
    )
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "swbench.ranks.rank")
    except ChildFailedError as problem:
        return problem.get_first_failure()
    return None


def _abort_ranks(number: int, frame: object) -> None:
    """Have every rank write its stacks to the log: its fault handler does, then it dies."""
    for rank in psutil.Process().children():
        rank.send_signal(signal.SIGABRT)


def _end_as(rank: int, failure: Any) -> None:
    """Tell which rank failed, and end with its exit status or by its signal."""
    code = failure.exitcode
    said = (
        failure.error_file_data.get("message")
        if isinstance(failure.error_file_data, dict)
        else None
    )
    if isinstance(said, dict) and code > 0:
        how = " ".join(str(said.get("message")).split())
    else:
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    sys.stderr.write(f"{how}\n" if how.startswith("rank ") else f"rank {rank}: {how}\n")
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
    os._exit(0)
