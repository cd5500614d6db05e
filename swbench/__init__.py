"""swbench measures what whitening costs in deep networks: layers, solvers, FLOP counts, and a
measuring protocol to trust.
"""

import importlib
from typing import TYPE_CHECKING, Any

from swbench.version import __version__

if TYPE_CHECKING:
    from swbench import flops, models, norms, solvers
    from swbench.flops.counter import count_flops
    from swbench.models.convert import convert_norms
    from swbench.models.folding import fold_whitening
    from swbench.models.public import load_public
    from swbench.norms.layers import BatchWhiten2d, InstanceWhiten2d, SwitchWhiten2d
    from swbench.norms.tracking import update_statistics
    from swbench.report.dataframe import load_run
    from swbench.solvers.functional import inverse_root, inverse_sqrt

_PACKAGES = ("flops", "models", "norms", "solvers")
_EXPORTS = {
    "BatchWhiten2d": "swbench.norms.layers",
    "InstanceWhiten2d": "swbench.norms.layers",
    "SwitchWhiten2d": "swbench.norms.layers",
    "convert_norms": "swbench.models.convert",
    "fold_whitening": "swbench.models.folding",
    "inverse_root": "swbench.solvers.functional",
    "inverse_sqrt": "swbench.solvers.functional",
    "load_public": "swbench.models.public",
    "count_flops": "swbench.flops.counter",
    "load_run": "swbench.report.dataframe",
    "update_statistics": "swbench.norms.tracking",
}

__all__ = [
    "BatchWhiten2d",
    "InstanceWhiten2d",
    "SwitchWhiten2d",
    "__version__",
    "convert_norms",
    "count_flops",
    "flops",
    "fold_whitening",
    "inverse_root",
    "inverse_sqrt",
    "load_public",
    "load_run",
    "models",
    "norms",
    "solvers",
    "update_statistics",
]


if not TYPE_CHECKING:  # for a type checker a module with it has any name at all

    def __getattr__(name: str) -> Any:
        """Import the public names on first use, so that `import swbench` and `swbench list` start
        without torch.
        """
        if name in _PACKAGES:
            return importlib.import_module(f"swbench.{name}")
        if name in _EXPORTS:
            return getattr(importlib.import_module(_EXPORTS[name]), name)
        raise AttributeError(f"module 'swbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
