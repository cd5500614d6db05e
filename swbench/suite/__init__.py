"""Suites: TOML files that name what is measured, checked as a whole, and turned into a plan.
Nothing here imports torch.
"""

from swbench.suite.expansion import expand
from swbench.suite.options import Options
from swbench.suite.source import Suite, folder, load, names

__all__ = ["Options", "Suite", "expand", "folder", "load", "names"]
