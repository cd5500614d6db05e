"""The layout of many small tensors in one allocation."""

import torch
from torch import Tensor

ALIGNED = 32
"""Alignment of every tensor in floats: a cache line of 128 bytes."""


class Workspace:
    """Named float32 tensors of given sizes in one allocation. A size of 0 is no tensor, shown as
    None.
    """

    def __init__(self, **sizes: int) -> None:
        self.places: list[tuple[str, int, int]] = []
        self.size = 0
        for name, size in sizes.items():
            self.places.append((name, self.size, size))
            self.size += -(-size // ALIGNED) * ALIGNED

    def allocate(self, like: Tensor) -> Tensor:
        """Allocate the memory, on the device of `like`."""
        return torch.empty(self.size, dtype=torch.float32, device=like.device)

    def addresses(self, workspace: Tensor) -> dict[str, int | None]:
        """The address of each tensor in the memory `workspace`."""
        base = workspace.data_ptr()
        return {name: base + 4 * begin if size else None for name, begin, size in self.places}

    def tensors(self, workspace: Tensor) -> dict[str, Tensor | None]:
        """Each tensor in the memory `workspace`, flat."""
        return {
            name: workspace[begin : begin + size] if size else None
            for name, begin, size in self.places
        }
