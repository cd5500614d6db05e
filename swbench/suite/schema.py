"""The schema of suite files: the allowed names, taken from their registries, and the keys of every
table with their kinds and bounds. Nothing here imports torch.
"""

import re
from dataclasses import replace

from swbench import models, norms, solvers
from swbench.case import EVAL, FOLDED, TRAIN
from swbench.errors import OptionError, SwbenchError, UnknownName, near_miss
from swbench.probes.hostile_inputs import INPUTS
from swbench.solvers import spectra
from swbench.suite.fields import DEVICES, Field

LABELS = {"bn": "BN", "in": "IN", "ln": "LN", "iw": "IW", "bw": "BW", "swa": "SW^a", "swb": "SW^b"}
"""The norms in the paper's notation."""

METRICS = {
    "flops": "FLOPs by every rule, parameters and activations of one image; counted, not timed",
    "time": (
        "seconds of the forward pass and of forward and backward, and their ratios to the baseline"
    ),
    "memory": "peak memory of one training step beyond the model and its input",
    "utilisation": "GPU utilisation over a steady loop, and the share of time that kernels run",
    "energy": "joules of one training step, by the GPU's own counter",
    "accuracy": (
        "error of a solver's matrices and gradients against float64, on the outputs that were timed"
    ),
    "stability": (
        "errors of a layer on hostile inputs against float64, and the final loss of a small network"
    ),
}
"""The metrics, with a description of each."""

NEEDS_BACKWARD = ("energy", "accuracy", "stability")
"""The metrics that need a backward pass or a gradient."""

PHASES = (TRAIN, EVAL, FOLDED)
SOLVER_DTYPES = ("float32", "float64", "tf32", "bfloat16", "float16")
DTYPES = (*SOLVER_DTYPES, "amp-bfloat16", "amp-float16")
"""Dtypes of a network; `amp-` is autocast to that dtype, with parameters in float32."""
STABILITY_DTYPES = ("float32", "bfloat16", "float16", "amp-bfloat16", "amp-float16")
"""Dtypes of a stability suite: the input's own, or that of autocast."""
MODES = ("eager", "graph", "compile")
LAYOUTS = ("contiguous", "channels_last")
SCALINGS = ("strong", "weak")
"""Whether `batch` counts the images of all processes (strong scaling) or of each (weak)."""

UNTIL_FITS, EVERY_BATCH = "until-fits", "every-batch"
"""Which of several batches are measured: from the largest down to the first at which every case
fits the memory, or all.
"""

CACHES = ("hot", "cold")


def device_problem(device: str) -> str | None:
    """The problem with the name of a device; None for cpu, cuda and cuda:N. Whether the device
    exists is checked by `swbench.run.devices`.
    """
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        return None
    return f"no device is called {device!r}.{near_miss(device, DEVICES)} Known: cpu, cuda, cuda:1 …"


def solver_problem(spec: str) -> str | None:
    """The problem with the name in a solver spec such as `eigh:backward=paper` or `auto`; None if
    there is none.
    """
    name = spec.partition(":")[0]
    if name == "auto":
        return None
    try:
        solvers.TABLE.check(name)
    except UnknownName as problem:
        return str(problem)
    return None


def norm_problem(name: str) -> str | None:
    """The problem with the name of a norm; None if there is none."""
    try:
        norms.TABLE.check(name)
    except UnknownName as problem:
        return str(problem)
    return None


def placement_problem(
    model: str, layers: int, group: int, kind: str = models.DEFAULT
) -> str | None:
    """Why `model` cannot have `layers` whitened sites in the placement `kind`, with groups of
    `group` channels; None if it can.
    """
    try:
        models.placement(model, layers, kind)
        models.check_group(model, group)
    except OptionError as problem:
        return str(problem)
    return None


def spectrum_problem(name: str) -> str | None:
    """The problem with the name of a spectrum; None if there is none."""
    try:
        spectra.parse(name)
    except SwbenchError as problem:
        return str(problem)
    return None


VERSION = 1
"""The schema of suite files that this version reads."""

KINDS = ("network", "solvers", "stability")

BATCH = {
    "kind": int,
    "low": 1,
    "high": 65_536,
    "why": "a larger batch fits no machine this was made for",
}
IMAGE = {"kind": "pair", "low": 1, "high": 16_384}
GROUP = {"kind": int, "low": 1, "high": 1024, "why": "channels a group"}
ROOT = {"kind": int, "choices": (2, 4), "why": "the p of Σ^(-1/p)"}
MATRICES = {"kind": int, "low": 1, "high": 4_194_304, "why": "matrices a batch"}
LAYERS = {"kind": int, "low": 0, "high": 10_000}
ITERATIONS = {"kind": int, "low": 1, "high": 1_000_000}
REPLICATES = {"kind": int, "low": 1, "high": 10_000, "why": "fresh worker processes"}
SECONDS = {"kind": float, "low": 0, "high": 30 * 86_400, "why": "seconds, at most 30 days"}
TARGET = {"kind": float, "low": 1e-5, "high": 1, "why": "half-width on the log-ratio, 0.01 is 1 %"}
WORLD = {"kind": int, "low": 1, "high": 65_536, "why": "processes"}
STEPS = {"kind": int, "low": 0, "high": 1_000_000, "why": "training steps"}
SEEDS = {"kind": int, "low": 0, "high": 10_000, "why": "trainings of each layer"}
RATE = {"kind": float, "low": 1e-9, "high": 1e9}
THREADS = {"kind": int, "low": 1, "high": 4096}

TOP = {
    "schema": Field(kind=int, required=True, low=1),
    "title": Field(kind=str, default=""),
    "kind": Field(kind=str, required=True, choices=KINDS),
    "paper": Field(kind=str),
    "metrics": Field(kind=str, many=True, choices=tuple(METRICS)),
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


SWEPT = ("image", "batch", "phase", "dtype", "mode", "layout")
"""The keys of `[network]` that a setting may override."""


def network_keys() -> dict[str, Field]:
    """The keys of `[network]`; its lists expand to their product."""
    return {
        "model": Field(kind=str, required=True, choices=models.names()),
        "placement": Field(kind=str, default=models.DEFAULT, choices=models.KINDS),
        "classes": Field(kind=int, default=1000, low=1, high=1_000_000),
        "image": Field(many=True, required=True, **IMAGE),
        "batch": Field(many=True, by_device=True, default=(1,), **BATCH),
        "until_fits": Field(kind=bool, default=False),
        "solver": Field(kind=str, many=True, default=("auto",), check=solver_problem),
        "group": Field(default=16, **GROUP),
        "phase": Field(kind=str, many=True, default=(TRAIN,), choices=PHASES),
        "dtype": Field(kind=str, many=True, default=("float32",), choices=DTYPES),
        "mode": Field(kind=str, many=True, default=("eager",), choices=MODES),
        "layout": Field(kind=str, many=True, default=("contiguous",), choices=LAYOUTS),
        "device": Field(kind=str, many=True, default=DEVICES, choices=DEVICES),
        "world": Field(many=True, default=(1,), **WORLD),
        "scaling": Field(kind=str, many=True, default=("strong",), choices=SCALINGS),
    }


def row_keys() -> dict[str, Field]:
    """The keys of one `[[rows]]` entry; `model`, `placement`, `solver` and `group` override those
    of `[network]`.
    """
    return {
        "norm": Field(kind=str, required=True, choices=norms.names()),
        "model": Field(kind=str, choices=models.names()),
        "layers": Field(default=0, **LAYERS),
        "placement": Field(kind=str, choices=models.KINDS),
        "solver": Field(kind=str, check=solver_problem),
        "group": Field(**GROUP),
        "label": Field(kind=str),
    }


def setting_keys() -> dict[str, Field]:
    """The keys of one `[[settings]]` entry: the keys of `[network]` that it may override, which
    expand to their product, and `only`, globs over rows as for `--only`.
    """
    own = {name: replace(network_keys()[name], required=False, default=None) for name in SWEPT}
    return own | {"only": Field(kind=str, many=True)}


def full_keys() -> dict[str, Field]:
    """The keys of `[full]` in a network suite, which override those of `[network]` under `--full`
    and replace its settings.
    """
    return {name: network_keys()[name] for name in (*SWEPT, "device")}


def solver_keys() -> dict[str, Field]:
    """The keys of `[solvers]`; `[full]` takes the same ones and overrides them for the full grid.

    `mixed` holds sizes that make one more case beside those of `group`, with `batch` matrices of
    each size. Without `gradient` only the forward pass is measured, as for every root but 2.
    """
    return {
        "solver": Field(kind=str, many=True, by_device=True, check=solver_problem),
        "batch": Field(many=True, by_device=True, required=True, **MATRICES),
        "group": Field(many=True, default=(16,), **GROUP),
        "mixed": Field(many=True, default=(), **GROUP),
        "root": Field(many=True, default=(2,), **ROOT),
        "gradient": Field(kind=bool, default=True),
        "spectrum": Field(kind=str, many=True, default=("kappa=1e3",), check=spectrum_problem),
        "dtype": Field(kind=str, many=True, default=("float32",), choices=SOLVER_DTYPES),
        "mode": Field(kind=str, many=True, default=("eager",), choices=MODES),
        "cache": Field(kind=str, many=True, default=("hot",), choices=CACHES),
        "device": Field(kind=str, many=True, default=DEVICES, choices=DEVICES),
    }


def stability_keys() -> dict[str, Field]:
    """The keys of `[stability]`; `[full]` takes the same ones and overrides them.

    `training_solver` replaces `solver` in the training; without `steps` or `seeds` there is no
    training.
    """
    return {
        "norm": Field(
            kind=str, many=True, default=("bw", "iw", "swa", "swb"), choices=norms.names()
        ),
        "solver": Field(kind=str, many=True, check=solver_problem),
        "dtype": Field(kind=str, many=True, default=("float32",), choices=STABILITY_DTYPES),
        "input": Field(kind=str, many=True, default=tuple(INPUTS), choices=tuple(INPUTS)),
        "group": Field(default=16, **GROUP),
        "batch": Field(default=8, **BATCH),
        "device": Field(kind=str, many=True, default=DEVICES, choices=DEVICES),
        "training_solver": Field(kind=str, many=True, check=solver_problem),
        "steps": Field(default=300, **STEPS),
        "seeds": Field(default=3, **SEEDS),
        "learning_rate": Field(default=1.0, **RATE),
    }
