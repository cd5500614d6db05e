"""A loop that keeps a GPU as busy as the case can, long enough for NVML's slow averages."""

from collections.abc import Callable

from swbench.clock.events import Gpu
from swbench.probes.card import Card
from swbench.result import Measurement

LEAST_S = {"utilisation": 10.0, "energy": 5.0}
"""How long the loop lasts for each metric: NVML averages utilisation over up to a second, and counts energy in steps of up to 0.1 s."""

SETTLE_S = 1.0
"""What runs before the first reading: NVML's longest window."""

PERIOD_S = 0.2
"""Between readings; a shorter one would read the same window twice."""


def observe(queue: Callable[[], None], iterations: int, gpu: Gpu, card: Card, metrics: tuple[str, ...]) -> list[Measurement]:
    """Samples of `gpu_utilisation` (a share), `gpu_power` (W) and `gpu_sm_clock` (Hz), and `gpu_energy` (J an iteration), as far as `metrics` asks.

    `queue` gives the device `iterations` iterations without waiting. At most two blocks are in flight: the host waits for the one
    before last, so the device has no gap and the queue no end. `gpu_loop` holds the loop's seconds.
    """
    wanted = [LEAST_S[metric] for metric in metrics if metric in LEAST_S]
    if not wanted:
        return []
    now, loop = gpu.clock.now, _Loop(queue, gpu)
    began = now()
    while now() - began < SETTLE_S:
        loop.turn()
    gpu.synchronise()
    before_j, began, blocks, read_at = card.energy_j(), now(), 0, -PERIOD_S
    samples: dict[str, list[float]] = {"gpu_utilisation": [], "gpu_power": [], "gpu_sm_clock": []}
    while (elapsed_s := now() - began) < max(wanted):
        loop.turn()
        blocks += 1
        if elapsed_s - read_at >= PERIOD_S:
            read_at = elapsed_s
            for kept, value in zip(samples.values(), (card.utilisation(), card.power_w(), card.sm_hz()), strict=True):
                kept += [] if value is None else [value]
    gpu.synchronise()
    took_s, after_j = now() - began, card.energy_j()
    if "utilisation" not in metrics:
        samples.pop("gpu_utilisation")
    units = {"gpu_utilisation": "1", "gpu_power": "W", "gpu_sm_clock": "Hz"}
    found = [Measurement(name, units[name], tuple(values)) for name, values in samples.items() if values]
    if before_j is not None and after_j is not None:
        found.append(Measurement("gpu_energy", "J", ((after_j - before_j) / (blocks * iterations),)))
    return [*found, Measurement("gpu_loop", "s", (took_s,))]


class _Loop:
    """Block after block, waiting for the one before last."""

    def __init__(self, queue: Callable[[], None], gpu: Gpu) -> None:
        self._queue, self._ends = queue, [gpu.event(), gpu.event()]
        self._turns = 0

    def turn(self) -> None:
        end = self._ends[self._turns % 2]
        if self._turns >= 2:
            end.synchronize()
        self._queue()
        end.record()
        self._turns += 1
