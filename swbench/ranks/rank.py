"""One rank of a job that is spread over processes: `python -m swbench.ranks.rank`, started by the
launcher. Rank 0 talks to the parent.
"""

import os
import sys

from swbench import plugins
from swbench.machine.hardware import usable_cores
from swbench.ranks.launcher import read_order
from swbench.ranks.rank_group import RankGroup, RankGroupWorkload
from swbench.worker.heartbeat import Page
from swbench.worker.job import Job
from swbench.worker.main import Line, looking, prepare, run, tie_to, workloads
from swbench.worker.session import Session


def main() -> None:
    """Join the rank group; rank 0 runs the session, the others follow it."""
    launcher = os.getppid()
    tie_to(launcher)
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
        for name, mode in (("report", os.O_WRONLY), ("ack", os.O_RDONLY), ("page", os.O_RDWR))
    ]
    page = Page(handles[2])
    Session(
        job,
        lambda case: RankGroupWorkload(job.cases.index(case), rank_group),
        Line(*handles[:2]).send,
        page.begin,
        look=looking(job),
    ).run()
    rank_group.end()


def _reopen(launcher: int, handle: int, mode: int) -> int:
    """The launcher's descriptor, reopened here: torch's launcher passes no descriptors on."""
    return os.open(f"/proc/{launcher}/fd/{handle}", mode | os.O_CLOEXEC)


if __name__ == "__main__":
    run(main)
