"""Modes other than eager: capture in CUDA graphs, which refuse solvers that synchronise with the
host, and torch.compile, with its graph breaks counted.
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
"""Seconds that a block of iterations should last, so that its one wait for the device is less than
0.1 % of it; heuristic.
"""

MOST = 1000
"""Iterations in a block at most: the driver's queue holds about as many launches."""

MOST_SETTLE_CALLS = 5
"""Calls after which torch.compile must have compiled everything: the first call compiles both
passes, and another where the first changed something.
"""


def block_size(call: Callable[[], dict[str, float]]) -> int:
    """Iterations in a block, from up to three calls of one iteration; two calls suffice where they
    last as long as a block.
    """
    durations_s: list[float] = []
    while len(durations_s) < 3 and sum(duration_s >= BLOCK_S for duration_s in durations_s) < 2:
        sample = call()
        durations_s += [sample[name] for name in WALLS if name in sample]
    return max(1, min(MOST, math.ceil(BLOCK_S / max(durations_s[-1], 1e-9))))


def synchronising_solvers(model: nn.Module) -> tuple[str, ...]:
    """Names of the solvers that the layers of `model` chose and that synchronise with the host."""
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
    """`step` as a CUDA graph. Raises Unsupported where it cannot be captured, for instance because
    it synchronises with the host.
    """
    try:
        return gpu.capture(step)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as problem:
        raise Unsupported(
            f"cannot be captured in a CUDA graph: {' '.join(str(problem).split())[:300]}"
        ) from problem


def refuse_synchronising_solvers(names: tuple[str, ...]) -> None:
    """Raise Unsupported if `names`, of solvers that synchronise with the host, is not empty."""
    if names:
        name = names[0]
        raise Unsupported(
            f"synchronises with the host: solver {name!r} cannot be part of a CUDA "
            "graph; use --mode eager, or another solver such as polar"
        )


class Compiled:
    """`model` compiled by torch.compile for fixed shapes. `words` count its graphs and breaks,
    `seconds` is the time of compilation.

    Every instance has a code object of its own. torch caches what it compiled by code object, at
    most eight entries each, and beyond that runs eagerly without saying so.
    """

    def __init__(self, model: nn.Module) -> None:
        def forward(*inputs: torch.Tensor) -> torch.Tensor:
            return model(*inputs)

        code = forward.__code__.replace(co_name=f"forward_{next(_FUNCTION_NUMBERS)}")
        self._run = torch.compile(
            FunctionType(code, forward.__globals__, closure=forward.__closure__), dynamic=False
        )
        self._compile_counts = [0, 0]
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

    def run_and_detect_compiling(self, work: Callable[[], Any]) -> tuple[Any, bool]:
        """(the result of `work`, whether torch compiled anything meanwhile). If so, its time is not
        that of the compiled model.
        """
        before, start = _compile_counters(), time.perf_counter()
        result = work()
        compiled = [
            after - earlier for after, earlier in zip(_compile_counters(), before, strict=True)
        ]
        if not any(compiled):
            return result, False
        self._compile_counts = [a + b for a, b in zip(self._compile_counts, compiled, strict=True)]
        self.seconds += time.perf_counter() - start
        return result, True

    def settle(self, step: Callable[[], Any]) -> None:
        """Call `step`, which runs both passes, until nothing more is compiled. Raises Unsupported
        where that takes more than `MOST_SETTLE_CALLS` calls.
        """
        for _ in range(MOST_SETTLE_CALLS):
            if not self.run_and_detect_compiling(step)[1]:
                return
        raise Unsupported(
            f"torch.compile compiles again in each of {MOST_SETTLE_CALLS} equal iterations; "
            "use --mode eager"
        )

    @property
    def words(self) -> str:
        """`2 graphs, 1 break`: where there are breaks, Python between the graphs still runs
        eagerly.
        """
        graphs, breaks = self._compile_counts
        return (
            f"{graphs} graph{'' if graphs == 1 else 's'}, {breaks} "
            f"break{'' if breaks == 1 else 's'}"
        )


_FUNCTION_NUMBERS = itertools.count()


def _compile_counters() -> tuple[int, int]:
    """(graphs, graph breaks) of everything that this process has compiled so far."""
    from torch._dynamo.utils import counters

    torch_counters: Any = counters
    return int(torch_counters["stats"].get("unique_graphs", 0)), int(
        sum(torch_counters["graph_break"].values())
    )
