"""Suites: TOML files that name the cases to measure, checked as a whole and expanded to a plan.
Nothing here imports torch, except for a network that the command line names.
"""

from importlib import import_module
from typing import Any

_MODULES = {
    "Options": "options",
    "Suite": "source",
    "expand": "expansion",
    "folder": "source",
    "load": "source",
    "names": "source",
    "permission": "own_model",
    "suite_of": "own_model",
}

__all__ = ["Options", "Suite", "expand", "folder", "load", "names", "permission", "suite_of"]


def __getattr__(name: str) -> Any:
    """Import the public names on first use: a help text needs only the options."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
