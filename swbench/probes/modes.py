"""What modes other than eager need: graphs that no solver's wait for the host may enter, and a compiler that says what it left out."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from swbench import solvers
from swbench.clock.events import Gpu, Graph
from swbench.probes.workload import Unsupported
from swbench.result import FORWARD_BACKWARD_WALL

MODES = ("eager", "graph", "compile")

BLOCK_S = 0.05
"""A block of iterations should last as long as this, so that its one wait for the device is less than 0.1 % of it; heuristic."""

MOST = 1000
"""Iterations in a block at most: the driver's queue holds about as many launches."""


def block_size(call: Callable[[], dict[str, float]]) -> int:
    """How many iterations make a block, from up to three of one; fewer where they are as long as a block."""
    taken: list[float] = []
    while len(taken) < 3 and sum(one >= BLOCK_S for one in taken) < 2:
        taken.append(call()[FORWARD_BACKWARD_WALL])
    return max(1, min(MOST, math.ceil(BLOCK_S / max(taken[-1], 1e-9))))


def waiting_solvers(model: nn.Module) -> tuple[str, ...]:
    """The solvers that the layers of `model` chose and that wait for the host, by name."""
    names = [str(dict(getattr(module, "chosen", None) or {}).get("solver", "")).partition(":")[0] for module in model.modules()]
    return tuple(name for name in dict.fromkeys(names) if name in solvers.TABLE and solvers.TABLE.load(name).synchronises)


def capture(gpu: Gpu, step: Callable[[], object]) -> Graph:
    """`step` as a graph. Raises Unsupported where it cannot be captured, because something in it waits for the host, say."""
    try:
        return gpu.capture(step)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as problem:
        raise Unsupported(f"cannot be captured in a CUDA graph: {' '.join(str(problem).split())[:300]}") from problem


def refuse_waiting(names: tuple[str, ...]) -> None:
    """Raises Unsupported if there is any name of a solver that waits for the host."""
    if names:
        one = names[0]
        raise Unsupported(f"synchronises with the host: solver {one!r} cannot be part of a CUDA graph; choose --mode eager, or one that can such as polar")


class Compiled:
    """`model` compiled by torch for fixed shapes; `words` say what came of it."""

    def __init__(self, model: nn.Module) -> None:
        self._before = _counted()
        self._run = torch.compile(model, dynamic=False)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        try:
            return self._run(*inputs)
        except Exception as problem:
            if type(problem).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise Unsupported(f"torch.compile cannot: {' '.join(str(problem).split())[:300]}") from problem
            raise

    @property
    def words(self) -> str:
        """`2 graphs, 1 break`: where there are breaks, Python between the graphs still runs eagerly."""
        graphs, breaks = (after - before for after, before in zip(_counted(), self._before, strict=True))
        return f"{graphs} graph{'' if graphs == 1 else 's'}, {breaks} break{'' if breaks == 1 else 's'}"


def _counted() -> tuple[int, int]:
    """Graphs compiled and breaks between them, of all that this process compiled so far."""
    from torch._dynamo.utils import counters

    found: Any = counters
    return int(found["stats"].get("unique_graphs", 0)), int(sum(found["graph_break"].values()))
