"""The names a suite may use, asked of the rooms that own them; nothing here imports torch."""

import re

from swbench import models, solvers
from swbench.errors import OptionError, SwbenchError, UnknownName, near_miss
from swbench.solvers import spectra
from swbench.suite.fields import DEVICES

LABELS = {"bn": "BN", "in": "IN", "ln": "LN", "iw": "IW", "bw": "BW", "swa": "SW^a", "swb": "SW^b"}
"""How the paper writes the norms."""

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
}
"""What can be measured, with a word on each."""

DTYPES = ("float32", "float64", "tf32", "bfloat16", "float16")
MODES = ("eager", "graph", "compile")
LAYOUTS = ("contiguous", "channels_last")
SCALINGS = ("strong", "weak")
"""What `batch` counts where it is spread over processes: the images of all of them, or those of
each.
"""

UNTIL_FITS, EVERY_BATCH = "until-fits", "every-batch"
"""Which of several batches are measured: from the largest down until one at which every case fits
the memory, or all of them.
"""

CACHES = ("hot", "cold")


def device_problem(device: str) -> str | None:
    """What is wrong with the name of a device; None for cpu, cuda and cuda:N. Whether it is there
    is for the engine to say.
    """
    if re.fullmatch(r"cpu|cuda(:\d{1,3})?", device):
        return None
    return f"no device is called {device!r}.{near_miss(device, DEVICES)} Known: cpu, cuda, cuda:1 …"


def solver_problem(spec: str) -> str | None:
    """What is wrong with the name in a solver spec such as `eigh:backward=paper` or `auto`; None if
    nothing is.
    """
    name = spec.partition(":")[0]
    if name == "auto":
        return None
    try:
        solvers.TABLE.check(name)
    except UnknownName as problem:
        return str(problem)
    return None


def placement_problem(model: str, layers: int, group: int) -> str | None:
    """Why `model` cannot have `layers` whitened sites with groups of `group` channels; None if it
    can.

    The one place to ask the models' placement rules.
    """
    try:
        models.placement(model, layers)
        models.check_group(model, group)
    except OptionError as problem:
        return str(problem)
    return None


def spectrum_problem(name: str) -> str | None:
    """What is wrong with the name of a spectrum; None if nothing is."""
    try:
        spectra.parse(name)
    except SwbenchError as problem:
        return str(problem)
    return None
