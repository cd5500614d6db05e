"""Networks named on the command line: `timm:NAME`, `torchvision:NAME`, `package.module:callable`.

Building one imports the named module, so it needs a `plugins.NamedModel`, which only the command
line makes: such a name in a suite or a stored run imports nothing.
"""

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from swbench import plugins
from swbench.errors import OptionError, near_miss, printable
from swbench.plugins import NamedModel

if TYPE_CHECKING:
    from torch import nn

PACKAGES = ("timm", "torchvision")
"""Packages of networks with a table of names; any other prefix is a module."""

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list[Any] = []
"""Keeps the library that defines the operators alive."""


def named(model: str) -> NamedModel:
    """The network that the user named, with the version of its package or the hash of its module.

    Imports the package or module to check that the network exists. Raises OptionError if it does
    not, with the nearest name, or if its package is not installed, with the command that installs
    it.
    """
    _, digest = _target(model)
    return NamedModel(model, digest)


def build(model: str) -> "nn.Module":
    """The network called `model`, freshly initialised, with its package's own number of classes.

    Raises OptionError where the command line did not name it, its package has changed since, it is
    no module, or its own code fails.
    """
    from torch import nn

    allowed = plugins.named_model(model)
    if allowed is None:
        raise OptionError(
            f"{printable(model)} is a name to import, which only --model on the command line "
            "does; no suite and no stored run imports anything"
        )
    factory, digest = _target(model)
    if digest != allowed.digest:
        raise OptionError(f"--model {model}: it was changed since the run began; start a new run")
    with option_errors(model, "building it"):
        network = factory()
    if not isinstance(network, nn.Module):
        raise OptionError(
            f"--model {model} gives a {type(network).__name__}, not a torch.nn.Module"
        )
    return network


def inputs_of(model: str) -> Callable | None:
    """The `inputs` hook of a network of the user's own: an attribute `inputs` of the callable."""
    if model.partition(":")[0] in PACKAGES:
        return None
    return getattr(_module_target(model)[0], "inputs", None)


@contextlib.contextmanager
def option_errors(model: str, what: str = "it"):
    """A context that turns any exception of the network's own code into an OptionError with its
    last line; `what` is the failed step.
    """
    try:
        yield
    except OptionError:
        raise
    except Exception as problem:
        raise OptionError(f"{model}: {what} fails: {last_line(problem)}") from problem


def last_line(problem: BaseException) -> str:
    """The type of an exception and the last line of its message."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    message = printable(lines[-1][:300]) if lines else ""
    return f"{type(problem).__name__}{f': {message}' if message else ''}"


def _target(model: str) -> tuple[Callable, str]:
    """The callable that builds the network, and the identity of its code."""
    package, _, name = model.partition(":")
    if package == "timm":
        return _timm_target(name)
    if package == "torchvision":
        return _torchvision_target(name)
    return _module_target(model)


def _timm_target(name: str) -> tuple[Callable, str]:
    timm = imported("timm")
    if not timm.is_model(name):
        known = timm.list_models()
        raise OptionError(
            f"timm has no model {printable(name)!r}.{near_miss(name, known)} It has {len(known):,}"
        )
    return lambda: timm.create_model(name, pretrained=False), f"timm {timm.__version__}"


def _torchvision_target(name: str) -> tuple[Callable, str]:
    torchvision = imported("torchvision")
    known = torchvision.models.list_models()
    if name not in known:
        raise OptionError(
            f"torchvision has no model {printable(name)!r}.{near_miss(name, known)} "
            f"It has {len(known):,}"
        )
    version = f"torchvision {torchvision.__version__}"
    # without weights of a backbone either, which would be downloaded
    without = {"weights": None} | (
        {"weights_backbone": None} if name in _with_backbones(torchvision) else {}
    )
    return lambda: torchvision.models.get_model(name, **without), version


def _with_backbones(torchvision: ModuleType) -> set[str]:
    return {
        *torchvision.models.list_models(torchvision.models.detection),
        *torchvision.models.list_models(torchvision.models.segmentation),
    }


def _module_target(model: str) -> tuple[Callable, str]:
    module_name, _, attribute = model.partition(":")
    words = f"--model {printable(model)}"
    if not all(part.isidentifier() for part in module_name.split(".")) or not attribute:
        raise OptionError(f"{words}: write timm:NAME, torchvision:NAME or package.module:callable")
    with option_errors(printable(model), "its import"):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as problem:
            if not f"{module_name}.".startswith(f"{problem.name}."):
                raise
            raise OptionError(
                f"{words}: no module is called {problem.name!r}."
                f"{near_miss(module_name, PACKAGES)} It has to be installed or on PYTHONPATH"
            ) from None
    target = getattr(module, attribute, None)
    if not callable(target):
        known = [name for name, value in vars(module).items() if callable(value)]
        raise OptionError(
            f"{words}: {module_name} has no callable {attribute!r}.{near_miss(attribute, known)}"
        )
    file = getattr(module, "__file__", None)
    if file is None:
        return target, "built in"
    return target, hashlib.sha256(Path(file).read_bytes()).hexdigest()[:12]


def imported(package: str) -> ModuleType:
    """`timm` or `torchvision`. Raises OptionError, with the line that installs it, where it is not
    installed, and where its import fails.

    Beside a torch without CUDA, torchvision's compiled operators may not load, and its import then
    fails for lack of two operators that no classification network calls. They are declared then.
    """
    if importlib.util.find_spec(package) is None:
        raise OptionError(f"{package} is not installed; pip install {package}")
    before = set(sys.modules)
    try:
        return importlib.import_module(package)
    except RuntimeError as problem:
        if "torchvision::nms" not in str(problem):
            raise OptionError(f"{package} cannot be imported: {last_line(problem)}") from problem
    except ImportError as problem:
        raise OptionError(f"{package} cannot be imported: {last_line(problem)}") from problem
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in PACKAGES:
            del sys.modules[name]
    _declare_operators()
    return importlib.import_module(package)


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _OPERATORS:
        name = schema.partition("(")[0]
        if not hasattr(torch.ops.torchvision, name):
            library.define(schema)
    _libraries.append(library)
