"""What a layer keeps from one call to the next."""

from typing import NamedTuple

from torch import Tensor

from swbench.norms.kernels.base import Again, Bound
from swbench.norms.whitening import Running

KINDS = 64
"""Kinds of calls a layer keeps ready; with more it starts again."""


class Ready(NamedTuple):
    """What calls of one kind need: the layer as a function of tensors, the running statistics it
    moves, and the names of what it runs on.

    `laid` is how those statistics lie, `settings` the layer's that can change what is made ready.
    """

    bound: Bound
    again: Again | None
    running: Running | None
    laid: tuple | None
    choice: tuple[str, str]
    settings: tuple

    def holds(self, buffers: dict[str, Tensor]) -> bool:
        """Whether the running statistics are still those of the layer, and lie as they did. Asked
        in every call.
        """
        running = self.running
        return running is None or (running.is_of(buffers) and running.laid == self.laid)
