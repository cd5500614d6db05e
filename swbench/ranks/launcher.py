"""The launcher of a worker with several ranks: torch's elastic launcher, in a process that exits
like the first rank that failed. Started as `python -m swbench.ranks.launcher`.
"""

import json
import os
import signal
import sys
import uuid
from typing import Any

import psutil

from swbench.worker.job import Job
from swbench.worker.main import die_with_parent, prepare

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

_RENDEZVOUS_S = 120
"""Timeout of the rendezvous of the nodes' launchers; heuristic."""


def main() -> None:
    """Start the ranks of the job on stdin and wait for them. They inherit stdout and stderr, which
    go to the job's log.
    """
    order = read_order()
    for name in ("report", "ack", "heartbeat"):
        # rank 0 opens them through /proc; a rank that outlives the others must not hold them open
        os.set_inheritable(order[name], False)
    die_with_parent(order["parent"])
    prepare()
    for name in [
        name
        for name in os.environ
        if name in _INHERITED or name.startswith(("TORCHELASTIC_", "GROUP_", "ROLE_"))
    ]:
        del os.environ[name]  # set by a torchrun that started swbench itself
    if failed := launch(Job.from_json(order["job"]).world, order["scratch"], **order["place"]):
        _exit_like_rank(*failed)


def read_order() -> dict[str, Any]:
    """The order on stdin, a file that every rank inherits. It is read by position, for the ranks
    share the file's offset.
    """
    return json.loads(os.pread(0, os.fstat(0).st_size, 0))


def launch(
    world: int, scratch: str, *, node: int = 0, nodes: int = 1, endpoint: str = "", run_id: str = ""
) -> tuple[int, Any] | None:
    """Run this node's part of `world` ranks to their end. Returns number and failure of the first
    rank that failed, or None.

    Each of several `nodes` runs one launcher. The launchers meet under the same `run_id` at the
    store of node 0's, `endpoint` (host:port).
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    signal.signal(signal.SIGABRT, _abort_ranks)
    one_node = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "local_addr": "localhost"}
    several_nodes = {
        "rdzv_backend": "static",
        "rdzv_endpoint": endpoint,
        "rdzv_configs": {"rank": node, "timeout": _RENDEZVOUS_S},
    }
    config = LaunchConfig(
        min_nodes=nodes,
        max_nodes=nodes,
        nproc_per_node=world // nodes,
        run_id=run_id or uuid.uuid4().hex,
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=scratch),
        **(one_node if nodes == 1 else several_nodes),
    )
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "swbench.ranks.rank")
    except ChildFailedError as problem:
        return problem.get_first_failure()
    return None


def _abort_ranks(number: int, frame: object) -> None:
    """Abort every rank, whose fault handler writes its stacks to the log."""
    for rank in psutil.Process().children():
        rank.send_signal(signal.SIGABRT)


def _exit_like_rank(rank: int, failure: Any) -> None:
    """Print which rank failed, then exit with its status or by its signal."""
    code = failure.exitcode
    report = (
        failure.error_file_data.get("message")
        if isinstance(failure.error_file_data, dict)
        else None
    )
    if isinstance(report, dict) and code > 0:
        reason = " ".join(str(report.get("message")).split())
    else:
        reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
    sys.stderr.write(f"{reason}\n" if reason.startswith("rank ") else f"rank {rank}: {reason}\n")
    sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code != signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main()
    os._exit(0)
