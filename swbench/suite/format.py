"""What a suite file may hold: the keys of every table, their kinds and bounds."""

from swbench import models, norms
from swbench.suite import vocabulary
from swbench.suite.fields import DEVICES, Field

SCHEMA = 1
"""The schema of suite files that this version reads."""

KINDS = ("network", "solvers")

BATCH = {
    "kind": int,
    "low": 1,
    "high": 65_536,
    "why": "a larger batch fits no machine this was made for",
}
IMAGE = {"kind": "pair", "low": 1, "high": 16_384}
GROUP = {"kind": int, "low": 1, "high": 1024, "why": "channels a group"}
MATRICES = {"kind": int, "low": 1, "high": 4_194_304, "why": "matrices a batch"}
LAYERS = {"kind": int, "low": 0, "high": 10_000}
ITERATIONS = {"kind": int, "low": 1, "high": 1_000_000}
REPLICATES = {"kind": int, "low": 1, "high": 10_000, "why": "fresh worker processes"}
SECONDS = {"kind": float, "low": 0, "high": 30 * 86_400, "why": "seconds, at most 30 days"}
TARGET = {"kind": float, "low": 1e-5, "high": 1, "why": "half-width on the log-ratio, 0.01 is 1 %"}
WORLD = {"kind": int, "low": 1, "high": 65_536, "why": "processes"}
THREADS = {"kind": int, "low": 1, "high": 4096}

TOP = {
    "schema": Field(kind=int, required=True, low=1),
    "title": Field(kind=str, default=""),
    "kind": Field(kind=str, required=True, choices=KINDS),
    "paper": Field(kind=str),
    "metrics": Field(kind=str, many=True, choices=tuple(vocabulary.METRICS)),
}
"""The keys above the first table; `SECTIONS` are the tables themselves."""

PROTOCOL = {
    "iterations": Field(**ITERATIONS),
    "replicates": Field(**REPLICATES),
    "warmup_calls": Field(kind=int, low=1, high=10_000),
    "warmup_s": Field(**SECONDS),
    "warmup_cap_s": Field(**SECONDS),
    "target_ci": Field(**TARGET),
    "budget_s": Field(**SECONDS),
    "case_limit_s": Field(**{**SECONDS, "low": 1}),
    "seed": Field(kind=int, low=0, high=2**32 - 1),
}


def network() -> dict[str, Field]:
    """The keys of `[network]`; its lists expand to their product."""
    return {
        "model": Field(kind=str, required=True, choices=models.names()),
        "classes": Field(kind=int, default=1000, low=1, high=1_000_000),
        "image": Field(many=True, required=True, **IMAGE),
        "batch": Field(many=True, by_device=True, default=(1,), **BATCH),
        "until_fits": Field(kind=bool, default=False),
        "solver": Field(kind=str, many=True, default=("auto",), check=vocabulary.solver_problem),
        "group": Field(default=16, **GROUP),
        "dtype": Field(kind=str, many=True, default=("float32",), choices=vocabulary.DTYPES),
        "mode": Field(kind=str, many=True, default=("eager",), choices=vocabulary.MODES),
        "layout": Field(kind=str, many=True, default=("contiguous",), choices=vocabulary.LAYOUTS),
        "device": Field(kind=str, many=True, default=DEVICES, choices=DEVICES),
        "world": Field(many=True, default=(1,), **WORLD),
        "scaling": Field(kind=str, many=True, default=("strong",), choices=vocabulary.SCALINGS),
    }


def row() -> dict[str, Field]:
    """The keys of one `[[rows]]` entry; `model`, `solver` and `group` go before those of
    `[network]`.
    """
    return {
        "norm": Field(kind=str, required=True, choices=norms.names()),
        "model": Field(kind=str, choices=models.names()),
        "layers": Field(default=0, **LAYERS),
        "solver": Field(kind=str, check=vocabulary.solver_problem),
        "group": Field(**GROUP),
        "label": Field(kind=str),
    }


def solvers() -> dict[str, Field]:
    """The keys of `[solvers]`; `[full]` takes the same ones and replaces theirs for the full
    grid.
    """
    return {
        "solver": Field(kind=str, many=True, check=vocabulary.solver_problem),
        "batch": Field(many=True, by_device=True, required=True, **MATRICES),
        "group": Field(many=True, default=(16,), **GROUP),
        "spectrum": Field(
            kind=str, many=True, default=("kappa=1e3",), check=vocabulary.spectrum_problem
        ),
        "dtype": Field(kind=str, many=True, default=("float32",), choices=vocabulary.DTYPES),
        "mode": Field(kind=str, many=True, default=("eager",), choices=vocabulary.MODES),
        "cache": Field(kind=str, many=True, default=("hot",), choices=vocabulary.CACHES),
        "device": Field(kind=str, many=True, default=DEVICES, choices=DEVICES),
    }
