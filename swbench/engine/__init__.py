"""The engine: a scheduler that runs a plan, executors that run one replicate in a fresh process,
and the worker inside it.
"""

from swbench.engine.executor import Executor, SubprocessExecutor
from swbench.engine.interruption import Interrupted
from swbench.engine.job import Ending, Job
from swbench.engine.scheduler import RunStatus, run

__all__ = ["Ending", "Executor", "Interrupted", "Job", "RunStatus", "SubprocessExecutor", "run"]
