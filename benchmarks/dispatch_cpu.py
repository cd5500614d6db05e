"""The cost of calling a layer that computes next to nothing, beside batch normalisation: `python -m
benchmarks.dispatch_cpu [--rounds 40] [--cold]`.

One layer at 1×16×1×2; all layers and directions in random order in one process. Medians over the
rounds, and the median difference to BN of the same round. By default on one thread with warm
caches: processor time, mean of 200 calls a round. `--cold`: on two threads, one call a round after
convolutions that empty the caches as they do in a network; time on the wall.
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable

# as in every worker; torch's runtime reads it when it is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch import nn

from swbench.norms.layers import BatchWhiten2d, SwitchWhiten2d

CALLS = 200
WARM_UP = 3
COLD_ROUNDS = 400

Pass = Callable[[], None]


def passes(layer: nn.Module, x: torch.Tensor, dy: torch.Tensor) -> dict[str, Pass]:
    """The timed calls by name."""

    def forward() -> None:
        layer(x)

    def without_grad() -> None:
        with torch.no_grad():
            layer(x)

    def both() -> None:
        layer(x).backward(dy)
        x.grad = None
        for p in layer.parameters():
            p.grad = None

    return {"forward": forward, "forward, no_grad": without_grad, "forward and backward": both}


def warm_us(call: Pass) -> float:
    """Processor time of a call with warm caches."""
    start = time.thread_time_ns()
    for _ in range(CALLS):
        call()
    return (time.thread_time_ns() - start) / CALLS / 1e3


def cold_us() -> Callable[[Pass], float]:
    """A function that returns the time of one call after convolutions."""
    network = nn.Sequential(
        *(nn.Conv2d(256, 256, 3, padding=1), nn.BatchNorm2d(256), nn.ReLU()),
        *(nn.Conv2d(256, 1024, 1), nn.BatchNorm2d(1024), nn.ReLU()),
        *(nn.Conv2d(1024, 256, 1), nn.BatchNorm2d(256)),
    )
    images = torch.randn(1, 256, 14, 14)

    def measure(call: Pass) -> float:
        network(images)
        start = time.perf_counter_ns()
        call()
        return (time.perf_counter_ns() - start) / 1e3

    return measure


def main() -> None:
    """Measure, and print a line a layer."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, help=f"40; with --cold {COLD_ROUNDS}")
    options.add_argument("--cold", action="store_true", help="convolutions before each call")
    given = options.parse_args()
    torch.set_num_threads(2 if given.cold else 1)
    random.seed(0)
    torch.manual_seed(0)
    x, dy = torch.randn(1, 16, 1, 2, requires_grad=True), torch.randn(1, 16, 1, 2)
    layers = {"BN": nn.BatchNorm2d(16), "SW^a": SwitchWhiten2d(16), "BW": BatchWhiten2d(16)}
    timed = {
        (name, pass_): call
        for name, layer in layers.items()
        for pass_, call in passes(layer, x, dy).items()
    }
    measure = cold_us() if given.cold else warm_us
    times: dict[tuple[str, str], list[float]] = {key: [] for key in timed}
    for index in range((given.rounds or (COLD_ROUNDS if given.cold else 40)) + WARM_UP):
        for key in random.sample(list(timed), len(timed)):
            us = measure(timed[key])
            if index >= WARM_UP:
                times[key].append(us)
    for name, layer in layers.items():
        cells = []
        for pass_ in passes(layer, x, dy):
            own, base = times[name, pass_], times["BN", pass_]
            extra = statistics.median(a - b for a, b in zip(own, base, strict=True))
            cells.append(f"{pass_} {statistics.median(own):5.1f} µs ({extra:+.1f})")
        sys.stdout.write(f"{name:20}" + "   ".join(cells) + "\n")


if __name__ == "__main__":
    main()
