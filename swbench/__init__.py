"""swbench measures what whitening costs in deep networks: layers, solvers, FLOP counts, and a
measuring protocol to trust.
"""

import importlib

__version__ = "0.1.0"

_EXPORTS = {
    "BatchWhiten2d": "swbench.norms.layers",
    "InstanceWhiten2d": "swbench.norms.layers",
    "SwitchWhiten2d": "swbench.norms.layers",
    "convert_norms": "swbench.models.convert",
    "inverse_sqrt": "swbench.solvers.functional",
    "load_public": "swbench.models.public",
    "count_flops": "swbench.flops.counter",
    "load_run": "swbench.report.frame",
}

__all__ = [
    "BatchWhiten2d",
    "InstanceWhiten2d",
    "SwitchWhiten2d",
    "__version__",
    "convert_norms",
    "count_flops",
    "inverse_sqrt",
    "load_public",
    "load_run",
]


def __getattr__(name: str):
    """Import the public names on first use, so that `bench.py list` starts without torch."""
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'swbench' has no attribute {name!r}")
