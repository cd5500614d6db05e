"""The tensors in the output of a network, however nested."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor


def tensors(output: Any) -> list[Tensor]:
    """Every tensor in a tensor, tuple, list, mapping or dataclass, however nested, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, Mapping):
        parts = output.values()
    elif isinstance(output, tuple | list):
        parts = output
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        parts = (getattr(output, field.name) for field in dataclasses.fields(output))
    else:
        return []
    return [tensor for part in parts for tensor in tensors(part)]


def floating(output: Any) -> list[Tensor]:
    """The floating-point tensors of an output, which take a cotangent."""
    return [tensor for tensor in tensors(output) if tensor.is_floating_point()]
