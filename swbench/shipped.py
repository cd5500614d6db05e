"""The files that come with swbench beside its code: the suites, and the supplement's tables."""

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

IN_CHECKOUT = {"suites": "suites", "paper": "results/paper"}
"""Where each folder lies in a checkout, beside the package. A build copies it into the package, as
`swbench/shipped/NAME` (setup.py).
"""


@cache
def folder(name: str) -> Traversable:
    """The folder called `name` of `IN_CHECKOUT`: inside the package where it was installed, else
    beside it in a checkout, which an editable installation uses as well.
    """
    package = resources.files("swbench")
    inside = package.joinpath("shipped", name)
    if inside.is_dir() or not isinstance(package, Path):
        return inside
    return package.parent / IN_CHECKOUT[name]
