"""One rank of a job that is spread over processes: `python -m swbench.ranks.rank`, started by the
launcher. Rank 0 talks to the parent.
"""

import os
import sys

from swbench import plugins
from swbench.machine.hardware import usable_cores
from swbench.ranks.launcher import read_order
from swbench.ranks.rank_group import Crew, Led
from swbench.worker.heartbeat import Page
from swbench.worker.job import Job
from swbench.worker.main import Line, looking, prepare, run, tie_to, workloads
from swbench.worker.session import Session


def main() -> None:
    """Join the others, then lead the session or follow it."""
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
    crew = Crew.join(job.cases, lambda case: classes[case.kind](case), job.protocol.case_limit_s)
    if crew.rank:
        crew.follow()
        return
    handles = [
        _taken(launcher, order[name], mode)
        for name, mode in (("report", os.O_WRONLY), ("ack", os.O_RDONLY), ("page", os.O_RDWR))
    ]
    page = Page(handles[2])
    Session(
        job,
        lambda case: Led(job.cases.index(case), crew),
        Line(*handles[:2]).send,
        page.begin,
        look=looking(job),
    ).run()
    crew.end()


def _taken(launcher: int, handle: int, mode: int) -> int:
    """A descriptor of the launcher's, opened again here: torch's launcher passes none on."""
    return os.open(f"/proc/{launcher}/fd/{handle}", mode | os.O_CLOEXEC)


if __name__ == "__main__":
    run(main)
