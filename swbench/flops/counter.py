"""`count_flops`: the FLOPs of one forward pass of a model, by a chosen rule."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from swbench import flops
from swbench.flops.recorder import record
from swbench.flops.rule import Count

Input = Sequence[Any] | Mapping[str, Any] | Tensor


def count_flops(
    model: nn.Module,
    input_size: Input,
    rule: str = "paper",
    batch: int = 1,
    mode: str | None = None,
    strict: bool = False,
) -> Count:
    """The FLOPs of one forward pass of any `model`, with the share of each layer and what the rule
    leaves out.

    `input_size` is the shape of one sample, (C, H, W) for an image, to which `batch` is put in
    front; or a whole input tensor, whose values are not read unless the model needs some. A model
    with several inputs takes a tuple of shapes or tensors, or a dict of them for arguments by name;
    other values in the tuple or dict are passed unchanged (`({"image": x},)`: one argument that is
    a dict). `mode` is `train`, `eval`, or None for the mode the model is in. Neither model nor
    inputs nor random state are changed, and nothing is computed where the model can run on the
    `meta` device. Where the paper's rule does not know an operation, the count is a lower bound
    that names it; with `strict` it raises NotCounted. Raises UnknownName for an unregistered rule,
    NotCounted for a model that cannot be counted (TorchScript, quantised, sparse), ValueError for
    an invalid input.

    >>> count_flops(swbench.models.build("resnet50"), (3, 224, 224), rule="paper").total 4143114240
    """
    counting = flops.get(rule)
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be an nn.Module, not {type(model).__name__}")
    model = unwrapped(model)
    args, kwargs = example(model, input_size, batch)
    return counting.count(record(model, args, mode, kwargs), strict)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside wrappers that distribute it over devices."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(model, parallel):
        model = model.module
    return model


def example(
    model: nn.Module, input_size: Input, batch: int = 1
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments for `model`, by position and by name. A tensor is unchanged; a shape becomes a
    tensor of `batch` samples on `meta`, in the dtype of the parameters.
    """
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    dtype = torch.get_default_dtype() if parameter is None else parameter.dtype

    def as_tensor(value: Any) -> Any:
        return _empty(value, batch, dtype) if _is_shape(value) else value

    if isinstance(input_size, Tensor) or _is_shape(input_size):
        return (as_tensor(input_size),), {}
    if isinstance(input_size, Mapping):
        return (), {name: as_tensor(value) for name, value in input_size.items()}
    if isinstance(input_size, tuple | list) and input_size:
        return tuple(as_tensor(value) for value in input_size), {}
    raise ValueError(
        "input_size must be the shape of one sample such as (3, 224, 224), a tensor, or a tuple or "
        f"dict of these, not {input_size!r:.80}"
    )


def _is_shape(value: Any) -> bool:
    if not isinstance(value, tuple | list) or not value:
        return False
    return all(isinstance(n, int) and not isinstance(n, bool) for n in value)


def _empty(shape: Sequence[int], batch: int, dtype: torch.dtype) -> Tensor:
    if batch < 1 or min(shape) < 1:
        raise ValueError(f"batch and sizes must be at least 1, not {batch} and {tuple(shape)}")
    return torch.empty(batch, *shape, dtype=dtype, device="meta")
