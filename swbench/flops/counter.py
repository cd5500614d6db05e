"""`count_flops`: how many FLOPs one forward pass of a model takes, by a rule of one's choice."""

import torch
from torch import Tensor, nn

from swbench import flops
from swbench.flops.recorder import record
from swbench.flops.rule import Count


def count_flops(
    model: nn.Module,
    input_size: tuple[int, ...] | Tensor,
    rule: str = "paper",
    batch: int = 1,
    mode: str | None = None,
) -> Count:
    """The FLOPs of one forward pass of any `model`, with the share of each layer and what the rule
    leaves out.

    `input_size` is the shape of one sample, (C, H, W) for an image, to which `batch` is put in
    front; or a whole input tensor, whose values are not read. `mode` is `train`, `eval`, or None
    for the mode the model is in. The model is not changed, and nothing is computed where it can run
    on the `meta` device. Raises UnknownName for a rule there is not, NotCounted where the paper's
    rule meets an operation it does not know.

    >>> count_flops(swbench.models.build("resnet50"), (3, 224, 224), rule="paper").total 4143114240
    """
    counting = flops.get(rule)
    return counting.count(record(model, (example(model, input_size, batch),), mode))


def example(model: nn.Module, input_size: tuple[int, ...] | Tensor, batch: int = 1) -> Tensor:
    """An input for `model`: `input_size` itself if it is a tensor, else a random one of `batch`
    samples, of the parameters' type and device.
    """
    if isinstance(input_size, Tensor):
        return input_size
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.rand(batch, *input_size, dtype=like.dtype, device=like.device)
