"""The random order in which cases are built, warmed up and run within a round, so that no case
gains from its position or its predecessor.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class CaseOrder:
    """Draws one order after another; the same `seed` gives the same orders."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def draw(self, cases: Sequence[T]) -> list[T]:
        """All of `cases`, in the next order."""
        order = list(cases)
        self._random.shuffle(order)
        return order
