"""A loop that keeps a GPU as busy as the case can, long enough for NVML's slow averages."""

import threading
from collections.abc import Callable
from typing import ClassVar

from swbench.clock.events import Gpu
from swbench.probes.nvml import Card
from swbench.result import Measurement

LEAST_S = {"utilisation": 10.0, "energy": 5.0}
"""How long the loop lasts for each metric: NVML averages utilisation over up to a second, and
counts energy in steps of up to 0.1 s.
"""

SETTLE_S = 1.0
"""What runs before the first reading: NVML's longest window."""

PERIOD_S = 0.2
"""Between readings; a shorter one would read the same window twice."""


class Sampler:
    """Reads a card from a thread of its own: readings between iterations would always fall on the
    same part of one.

    NVML's calls let other threads run. `wait` (of seconds, true when it is time to stop) stands for
    the passing of time in tests.
    """

    UNITS: ClassVar[dict[str, str]] = {
        "gpu_utilisation": "1",
        "gpu_power": "W",
        "gpu_sm_clock": "Hz",
    }

    def __init__(self, card: Card, wait: Callable[[float], bool] | None = None) -> None:
        self._questions = (card.utilisation, card.power_w, card.sm_hz)
        self._stop = threading.Event()
        self._wait = wait or self._stop.wait
        self._samples: dict[str, list[float]] = {name: [] for name in self.UNITS}
        self._thread = threading.Thread(target=self._run, name="nvml", daemon=True)

    def start(self) -> None:
        """Read now, and every `PERIOD_S` from now on."""
        self._thread.start()

    def stop(self) -> list[Measurement]:
        """Everything that was read; a question NVML never answered is left out."""
        self._stop.set()
        self._thread.join()
        return [
            Measurement(name, self.UNITS[name], tuple(values))
            for name, values in self._samples.items()
            if values
        ]

    def _run(self) -> None:
        while True:
            for kept, question in zip(self._samples.values(), self._questions, strict=True):
                if (value := question()) is not None:
                    kept.append(value)
            if self._wait(PERIOD_S):
                return


def observe(
    queue: Callable[[], None],
    iterations: int,
    gpu: Gpu,
    card: Card,
    metrics: tuple[str, ...],
    sampler: Sampler | None = None,
) -> list[Measurement]:
    """Samples of `gpu_utilisation` (a share), `gpu_power` (W) and `gpu_sm_clock` (Hz), and
    `gpu_energy` (J an iteration), as far as `metrics` asks.

    `queue` gives the device `iterations` iterations without waiting. At most two blocks are in
    flight: the host waits for the one before last, so the device has no gap and the queue no end.
    `gpu_loop` holds the loop's seconds.
    """
    wanted = [LEAST_S[metric] for metric in metrics if metric in LEAST_S]
    if not wanted:
        return []
    now, loop, sampler = gpu.clock.now, _Loop(queue, gpu), sampler or Sampler(card)
    began = now()
    while now() - began < SETTLE_S:
        loop.turn()
    gpu.synchronise()
    before_j, began, turns = card.energy_j(), now(), loop.turns
    sampler.start()
    try:
        while now() - began < max(wanted):
            loop.turn()
        gpu.synchronise()
        took_s, after_j = now() - began, card.energy_j()
    finally:
        found = sampler.stop()
    if "utilisation" not in metrics:
        found = [one for one in found if one.metric != "gpu_utilisation"]
    if before_j is not None and after_j is not None:
        found.append(
            Measurement(
                "gpu_energy", "J", ((after_j - before_j) / ((loop.turns - turns) * iterations),)
            )
        )
    return [*found, Measurement("gpu_loop", "s", (took_s,))]


class _Loop:
    """Block after block, waiting for the one before last."""

    def __init__(self, queue: Callable[[], None], gpu: Gpu) -> None:
        self._queue, self._ends = queue, [gpu.event(), gpu.event()]
        self.turns = 0

    def turn(self) -> None:
        end = self._ends[self.turns % 2]
        if self.turns >= 2:
            end.synchronize()
        self._queue()
        end.record()
        self.turns += 1
