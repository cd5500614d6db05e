"""Running a plan: the scheduler, and the executor that runs each replicate in a fresh worker
process.
"""

from swbench.run.executor import Executor, SubprocessExecutor
from swbench.run.scheduler import Interrupted, RunStatus, run
from swbench.worker.job import Ending, Job

__all__ = ["Ending", "Executor", "Interrupted", "Job", "RunStatus", "SubprocessExecutor", "run"]
