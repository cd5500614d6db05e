"""What calling a layer costs where next to nothing is computed, beside batch normalisation: `python
-m benchmarks.dispatch_cpu [--rounds 40]`.

One layer at 1×16×1×2 on one thread; processor time a call, all layers and ways in random order in
one process. Medians over the rounds, and the median difference to BN of the same round.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable

import torch

from swbench.norms.layers import BatchWhiten2d, SwitchWhiten2d

CALLS = 200
WARM_UP = 3


def directions(
    layer: torch.nn.Module, x: torch.Tensor, dy: torch.Tensor
) -> dict[str, Callable[[], None]]:
    """What is timed, by name."""

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


def main() -> None:
    """Measure, and print a line a layer."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=40)
    rounds = options.parse_args().rounds
    torch.set_num_threads(1)
    random.seed(0)
    x, dy = torch.randn(1, 16, 1, 2, requires_grad=True), torch.randn(1, 16, 1, 2)
    layers = {
        "BN": torch.nn.BatchNorm2d(16),
        "SW^a": SwitchWhiten2d(16),
        "BW": BatchWhiten2d(16),
    }
    timed = {
        (name, direction): call
        for name, layer in layers.items()
        for direction, call in directions(layer, x, dy).items()
    }
    spent: dict[tuple[str, str], list[float]] = {key: [] for key in timed}
    for at in range(rounds + WARM_UP):
        for key in random.sample(list(timed), len(timed)):
            start = time.thread_time_ns()
            for _ in range(CALLS):
                timed[key]()
            if at >= WARM_UP:
                spent[key].append((time.thread_time_ns() - start) / CALLS / 1e3)
    for name in layers:
        cells = []
        for direction in directions(layers[name], x, dy):
            extra = statistics.median(
                layer_time - base
                for layer_time, base in zip(
                    spent[name, direction], spent["BN", direction], strict=True
                )
            )
            cells.append(
                f"{direction} {statistics.median(spent[name, direction]):5.1f} µs ({extra:+.1f})"
            )
        sys.stdout.write(f"{name:20}" + "   ".join(cells) + "\n")


if __name__ == "__main__":
    main()
