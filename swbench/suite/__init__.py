"""Suites: TOML files that name what is measured, checked as a whole, and turned into a plan.
Nothing here imports torch.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "Options": "options",
    "Suite": "source",
    "expand": "expansion",
    "folder": "source",
    "load": "source",
    "names": "source",
}

__all__ = ["Options", "Suite", "expand", "folder", "load", "names"]


def __getattr__(name: str) -> Any:
    """Import what is here on first use: a help text needs the options and not the rest."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
