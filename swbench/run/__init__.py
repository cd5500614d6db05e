"""The engine: a scheduler that runs a plan, executors that run one replicate in a fresh process,
and the worker inside it.
"""

from swbench.run.executor import Executor, SubprocessExecutor
from swbench.run.scheduler import Interrupted, RunStatus, run
from swbench.worker.job import Ending, Job

__all__ = ["Ending", "Executor", "Interrupted", "Job", "RunStatus", "SubprocessExecutor", "run"]
