"""What whitening costs in a compiled ResNet50, beside batch normalisation: `python -m
benchmarks.compiled_network [--batch 1] [--phase train]`.

All networks live in one process and are called in turn, in random order in each round; what is
said is the median of the rounds' ratios to `bn`, with the quartiles. `swa generated` is SW^a whose
comparisons for ReLU's gradient are inductor's own code (`swbench/norms/saved_masks.py`).
"""

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from unittest import mock

# as in every worker; torch's runtime reads it when it is loaded
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

from swbench import models
from swbench.norms import saved_masks

NETWORKS = ("bn", "bn again", "swa", "swa generated", "swb", "swb generated")
WARM_UP = 3
SIDE = 224


def compiled(name: str, layers: int, image: torch.Tensor, train: bool) -> Callable[[], None]:
    """A call of network `name`: forward and backward, or one forward in inference mode."""
    norm, *rest = name.split()
    torch.manual_seed(0)
    network = models.build("resnet50", norm, 0 if norm == "bn" else layers).train(train)
    run = torch.compile(network, fullgraph=True, dynamic=False)

    def call() -> None:
        if not train:
            with torch.inference_mode():
                run(image)
            return
        run(image).sum().backward()
        network.zero_grad(set_to_none=True)

    without = mock.patch.object(saved_masks, "separate_comparisons")
    with without if rest == ["generated"] else nullcontext():
        call()
    return call


def main() -> None:
    """Measure, and print a line a network."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--batch", type=int, default=1)
    options.add_argument("--layers", type=int, choices=(7, 14), default=7)
    options.add_argument("--phase", choices=("train", "eval"), default="train")
    options.add_argument("--networks", default=",".join(NETWORKS))
    options.add_argument("--rounds", type=int, default=100)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    torch._inductor.config.fx_graph_cache = False  # one key for graphs with the pass and without
    torch._functorch.config.enable_autograd_cache = False
    image = torch.randn(given.batch, 3, SIDE, SIDE)
    calls = {
        name: compiled(name, given.layers, image, given.phase == "train")
        for name in given.networks.split(",")
    }
    spent: dict[str, list[float]] = {name: [] for name in calls}
    random.seed(0)
    for _ in range(given.rounds + WARM_UP):
        for name in random.sample(list(calls), len(calls)):
            start = time.perf_counter()
            calls[name]()
            spent[name].append(time.perf_counter() - start)
    for name, own in spent.items():
        ratios = [a / b for a, b in zip(own[WARM_UP:], spent["bn"][WARM_UP:], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        milliseconds = 1e3 * statistics.median(own[WARM_UP:])
        sys.stdout.write(
            f"{name:14} {milliseconds:7.1f} ms   {middle:.3f} [{low:.3f}, {high:.3f}] of bn\n"
        )


if __name__ == "__main__":
    main()
