"""One rank of a job that is spread over processes: `python -m swbench.ranks.rank`, started by the
launcher. Rank 0 talks to the parent.
"""

import os
import sys

from swbench import plugins
from swbench.machine.hardware import usable_cores
from swbench.ranks.launcher import read_order
from swbench.ranks.rank_group import RankGroup, RankGroupWorkload
from swbench.worker.heartbeat import Heartbeat
from swbench.worker.job import Job
from swbench.worker.main import MessageChannel, die_with_parent, gpu_reader, prepare, run, workloads
from swbench.worker.session import Session


def main() -> None:
    """Join the rank group; rank 0 runs the session, the others follow it."""
    launcher = os.getppid()
    die_with_parent(launcher)
    prepare()
    order = read_order()
    job = Job.from_json(order["job"])
    plugins.load(plugins.from_json(order["plugins"]))
    classes = workloads(job)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(
            job.threads or max(1, usable_cores() * job.nodes // job.world)
        )
    rank_group = RankGroup.join(
        job.cases, lambda case: classes[case.kind](case), job.protocol.case_limit_s
    )
    if rank_group.rank:
        rank_group.follow()
        return
    handles = [
        _reopen(launcher, order[name], mode)
        for name, mode in (("report", os.O_WRONLY), ("ack", os.O_RDONLY), ("heartbeat", os.O_RDWR))
    ]
    heartbeat = Heartbeat(handles[2])
    Session(
        job,
        lambda case: RankGroupWorkload(job.cases.index(case), rank_group),
        MessageChannel(*handles[:2]).send,
        heartbeat.begin,
        look=gpu_reader(job),
    ).run()
    rank_group.end()


def _reopen(launcher: int, handle: int, mode: int) -> int:
    """The launcher's descriptor, reopened here: torch's launcher passes no descriptors on."""
    return os.open(f"/proc/{launcher}/fd/{handle}", mode | os.O_CLOEXEC)


if __name__ == "__main__":
    run(main)
