"""What modes other than eager need: graphs that no solver's wait for the host may enter, and a
compiler that says what it left out.
"""

import itertools
import math
import time
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import nn

from swbench import solvers
from swbench.clock.events import Gpu, Graph
from swbench.probes.workload import Unsupported
from swbench.result import WALLS

MODES = ("eager", "graph", "compile")

BLOCK_S = 0.05
"""A block of iterations should last as long as this, so that its one wait for the device is less
than 0.1 % of it; heuristic.
"""

MOST = 1000
"""Iterations in a block at most: the driver's queue holds about as many launches."""

SETTLING = 5
"""Iterations in which a compiler must have compiled all there is: the first both ways, another
where a first call changed something.
"""


def block_size(call: Callable[[], dict[str, float]]) -> int:
    """How many iterations make a block, from up to three of one; fewer where they are as long as a
    block.
    """
    taken: list[float] = []
    while len(taken) < 3 and sum(one >= BLOCK_S for one in taken) < 2:
        found = call()
        taken += [found[name] for name in WALLS if name in found]
    return max(1, min(MOST, math.ceil(BLOCK_S / max(taken[-1], 1e-9))))


def waiting_solvers(model: nn.Module) -> tuple[str, ...]:
    """The solvers that the layers of `model` chose and that wait for the host, by name."""
    names = [
        str(dict(getattr(module, "chosen", None) or {}).get("solver", "")).partition(":")[0]
        for module in model.modules()
    ]
    return tuple(
        name
        for name in dict.fromkeys(names)
        if name in solvers.TABLE and solvers.TABLE.load(name).synchronises
    )


def capture(gpu: Gpu, step: Callable[[], object]) -> Graph:
    """`step` as a graph. Raises Unsupported where it cannot be captured, because something in it
    waits for the host, say.
    """
    try:
        return gpu.capture(step)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as problem:
        raise Unsupported(
            f"cannot be captured in a CUDA graph: {' '.join(str(problem).split())[:300]}"
        ) from problem


def refuse_waiting(names: tuple[str, ...]) -> None:
    """Raises Unsupported if there is any name of a solver that waits for the host."""
    if names:
        one = names[0]
        raise Unsupported(
            f"synchronises with the host: solver {one!r} cannot be part of a CUDA "
            "graph; choose --mode eager, or one that can such as polar"
        )


class Compiled:
    """`model` compiled by torch for fixed shapes; `words` say what came of it, `seconds` how long
    that took.

    Every one is compiled apart from all others in this process: torch keeps what it compiled with
    the code of a function, up to eight of them, and beyond that runs eagerly without a word in the
    result.
    """

    def __init__(self, model: nn.Module) -> None:
        def forward(*inputs: torch.Tensor) -> torch.Tensor:
            return model(*inputs)

        code = forward.__code__.replace(co_name=f"forward_{next(_ORDINALS)}")
        self._run = torch.compile(
            FunctionType(code, forward.__globals__, closure=forward.__closure__), dynamic=False
        )
        self._found = [0, 0]
        self.seconds = 0.0

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        try:
            return self._run(*inputs)
        except Exception as problem:
            if type(problem).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise Unsupported(
                    f"torch.compile cannot: {' '.join(str(problem).split())[:300]}"
                ) from problem
            raise

    def watched(self, work: Callable[[], Any]) -> tuple[Any, bool]:
        """What `work` gives, and whether anything was compiled meanwhile, so that its time is not
        that of the compiled model.
        """
        before, start = _counted(), time.perf_counter()
        result = work()
        new = [after - earlier for after, earlier in zip(_counted(), before, strict=True)]
        if not any(new):
            return result, False
        self._found = [a + b for a, b in zip(self._found, new, strict=True)]
        self.seconds += time.perf_counter() - start
        return result, True

    def settle(self, step: Callable[[], Any]) -> None:
        """Call `step`, which runs the model both ways, until it compiles nothing more. Raises
        Unsupported if it never does.
        """
        for _ in range(SETTLING):
            if not self.watched(step)[1]:
                return
        raise Unsupported(
            f"torch.compile compiles anew in each of {SETTLING} iterations alike; use --mode eager"
        )

    @property
    def words(self) -> str:
        """`2 graphs, 1 break`: where there are breaks, Python between the graphs still runs
        eagerly.
        """
        graphs, breaks = self._found
        return (
            f"{graphs} graph{'' if graphs == 1 else 's'}, {breaks} "
            f"break{'' if breaks == 1 else 's'}"
        )


_ORDINALS = itertools.count()


def _counted() -> tuple[int, int]:
    """Graphs compiled and breaks between them, of all that this process compiled so far."""
    from torch._dynamo.utils import counters

    found: Any = counters
    return int(found["stats"].get("unique_graphs", 0)), int(sum(found["graph_break"].values()))
