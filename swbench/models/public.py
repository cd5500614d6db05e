"""The authors' checkpoints: ResNet-50 and ResNet-101 with switchable whitening, as the public code
(XingangPan/Switchable-Whitening) stores them.
"""

import os
import pickle
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from swbench import models
from swbench.errors import OptionError, printable
from swbench.models.sites import PUBLIC, placements

SOLVER = "newton5"
"""The solver of the checkpoints: five Newton steps, which are not ZCA whitening to full
precision.
"""

BLOCKS = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101"}
"""Blocks of the four stages -> the network."""

_FIRST = "sw1.sw_mean_weight"
_LARGEST_NESTING = 2  # a checkpoint in a dictionary under `state_dict`


def load_public(source: "str | os.PathLike[str] | Mapping[str, Any]") -> nn.Module:
    """The network of a published checkpoint, in eval mode, with its weights: ResNet-50 or
    ResNet-101 with SW^a in the public code's placement, solver `newton5`, float32 or as stored.

    `source` is a file, of which nothing but tensors is loaded (`weights_only`), or a state dict;
    either may be nested under `state_dict` and have keys that begin with `module.`. Keys `sw1…` and
    `sw2…` become `bn1…` and `bn2…`, as the networks here have them. Raises OptionError for a file
    that cannot be read or holds more than tensors, keys of another network, a missing or
    superfluous key, and a wrong shape; and for `sw_type` 3 and 5, of which no checkpoint was
    published and which the public code computes unlike the paper.
    """
    label = "the state dict" if isinstance(source, Mapping) else printable(os.fspath(source))
    state = _state(source if isinstance(source, Mapping) else _read(source, label), label)
    model = _model_of(state, label)
    group = state["sw1.running_cov"].shape[-1]
    classes = state["fc.weight"].shape[0]
    layers = next(iter(placements(model, PUBLIC)))
    network = models.build(model, "swa", layers, SOLVER, classes, group, placement=PUBLIC)
    network = network.to(state["fc.weight"].dtype)
    _fill(network, {_local_key(key): value for key, value in state.items()}, label)
    return network.eval()


def public_key(key: str) -> str:
    """The name in the public code of the entry `key` of a whitened site of a network here."""
    return re.sub(r"(^|\.)bn(\d)\.", r"\1sw\2.", key)


def _local_key(key: str) -> str:
    return re.sub(r"(^|\.)sw(\d)\.", r"\1bn\2.", key)


def _read(path: "str | os.PathLike[str]", label: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as problem:
        raise OptionError(f"{label} cannot be read: {problem.strerror or problem}") from None
    except pickle.UnpicklingError:
        raise OptionError(
            f"{label} holds more than tensors, or is no checkpoint, and loading it could run code; "
            "save its state dict alone"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError) as problem:
        message = str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__
        raise OptionError(f"{label} is no checkpoint: {message}") from None


def _state(content: Any, label: str) -> dict[str, Tensor]:
    for _ in range(_LARGEST_NESTING):
        if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
            content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        raise OptionError(f"{label} holds no state dict: names with a tensor each")
    return {key.removeprefix("module."): value for key, value in content.items()}


def _model_of(state: Mapping[str, Tensor], label: str) -> str:
    """The name of the network that the keys belong to."""
    if _FIRST not in state or "fc.weight" not in state or "sw1.running_cov" not in state:
        other = "DenseNet " if any(key.startswith("features.") for key in state) else ""
        shown = printable(", ".join(list(state)[:3])[:120])
        raise OptionError(
            f"{label} is no {'ResNet' if other else 'ResNet-50 or ResNet-101'} with switchable "
            f"whitening of the public code; its keys are {other}{shown} …"
        )
    if (count := state[_FIRST].numel()) != 2:
        raise OptionError(
            f"{label} mixes {count} statistics (sw_type {count}); only sw_type 2 was published, "
            "and of the others the public code computes something else than the paper"
        )
    blocks = [0, 0, 0, 0]
    for key in state:
        if match := re.match(r"layer([1-4])\.(\d{1,3})\.", key):
            stage = int(match[1]) - 1
            blocks[stage] = max(blocks[stage], int(match[2]) + 1)
    if tuple(blocks) not in BLOCKS:
        raise OptionError(
            f"{label} has {'-'.join(map(str, blocks))} blocks; ResNet-50 has 3-4-6-3 and "
            "ResNet-101 3-4-23-3"
        )
    return BLOCKS[tuple(blocks)]


def _fill(network: nn.Module, state: Mapping[str, Tensor], label: str) -> None:
    """Load `state`, which must have exactly the entries of the network."""
    expected = network.state_dict()
    # written by torch before 0.4.1, a checkpoint has no such counts
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in state and key not in optional]
    unexpected = [key for key in state if key not in expected]
    mismatched = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    for what, keys in (("lacks", missing), ("has in addition", unexpected), ("has", mismatched)):
        if keys:
            rest = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
            raise OptionError(
                f"{label} {what} {printable(keys[0])}{rest}: it is not of the public placement"
            )
    network.load_state_dict(state, strict=False)
